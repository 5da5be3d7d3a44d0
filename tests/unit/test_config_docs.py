"""docs/configuration.md agrees with the code, and its examples do what they say."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from pathlib import Path

import pytest

from perdure.config import load
from perdure.config.keys import VARIABLES, pascal
from perdure.config.sections import SECTIONS
from perdure.errors import ConfigError

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCKS if found == language]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the test, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SECTIONS)
def test_a_sections_table_is_what_the_code_does(name: str) -> None:
    section = SECTIONS[name]
    expected = [
        [
            f"`{key}`",
            f"`{pascal(key)}`",
            f"`PERDURE_{name.upper()}_{key.upper()}`",
            f"`{_written(rule.show(section.defaults()[key]))}`",
            # How a duration is written is told once, below the tables.
            rule.allowed.partition(", as a timedelta")[0],
        ]
        for key, rule in section.rules().items()
    ]
    table = re.search(rf"^### `{name}`\n\n\|.*\n\|---.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table is not None
    assert [re.split(r" *\| *", row)[1:-1] for row in table[1].splitlines()] == expected


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_key_is_in_the_page_and_no_other() -> None:
    listed = re.findall(r"^\| `\w+` \| `\w+` \| `(PERDURE_\w+)` \|", PAGE, re.MULTILINE)
    assert listed == list(VARIABLES)


@pytest.mark.parametrize("section", SECTIONS.values(), ids=str)
def test_every_attribute_of_a_section_is_documented(section: type[object]) -> None:
    described = re.findall(r"^ {4}(\w+): ", inspect.getdoc(section) or "", re.MULTILINE)
    assert described == list(SECTIONS[section.__name__.removesuffix("Config").lower()].rules())


def test_the_example_of_perdure_toml(folder: Path) -> None:
    (folder / "perdure.toml").write_text(blocks("toml")[0])
    config = load(environ={})
    assert config.dsn == "postgresql://ann@db.example/shop"
    assert list(config.scheduling.scheduler_retry_delays) == [1, 10, 300]
    assert config.execution.lease_duration == timedelta(minutes=1)


def test_the_example_of_pyproject_toml(folder: Path) -> None:
    (folder / "pyproject.toml").write_text(blocks("toml")[1])
    config = load(environ={})
    assert config.scheduling.polling_delay == timedelta(milliseconds=500)
    assert config.execution.max_retry_count == 2


@pytest.mark.parametrize("text", blocks("json"))
def test_the_examples_of_json(folder: Path, text: str) -> None:
    (folder / "settings.json").write_text(text)
    config = load(environ={}, file="settings.json")
    assert config.scheduling.batch_size == 100
    assert config.scheduling.polling_delay == timedelta(milliseconds=500)


def test_the_example_of_an_environment() -> None:
    (text,) = blocks("sh")
    environ = dict(line.split("=", 1) for line in text.splitlines())
    config = load(environ=environ)
    assert {row.origin for row in config.describe()} == {"default", *environ}
    assert list(config.scheduling.scheduler_retry_delays) == [1, 10, 300]


def test_the_example_in_code(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    (code,) = blocks("python")
    exec(compile(code, "docs/configuration.md", "exec"), {})  # noqa: S102 - our own page
    assert "scheduling.polling_delay 00:00:00.500 argument" in capsys.readouterr().out


def test_the_example_of_an_error(folder: Path) -> None:
    (folder / "perdure.toml").write_text("[scheduling]\nbatch_size = 0\n")
    with pytest.raises(ConfigError) as caught:
        load(environ={})
    assert [str(caught.value) + "\n"] == blocks("text")


@pytest.mark.parametrize("text", re.findall(r'in `("[\d.:]+")`|or `("[\d.:]+")`', PAGE.partition("**Durations**")[2]))
def test_timespans_in_the_text_can_be_read(text: tuple[str, str]) -> None:
    load(environ={}, execution={"max_stall": 10, "shutdown_grace": "".join(text).strip('"')})


@pytest.mark.parametrize("variable", ["PERDURE_POLLING_DELAY", "PERDURE_SHEDULING_BATCH_SIZE"])
def test_the_lookalikes_in_the_text_are_refused(variable: str) -> None:
    assert f"`{variable}`" in PAGE
    with pytest.raises(ConfigError, match=variable):
        load(environ={variable: "1"})
