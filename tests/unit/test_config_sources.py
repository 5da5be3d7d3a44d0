"""spec: arguments over environment over file over defaults; JSON of the source document loads unchanged."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from perdure.config import load
from perdure.config.keys import VARIABLES
from perdure.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the test, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def origins(**arguments: Any) -> dict[str, str]:
    arguments.setdefault("environ", {})
    return {row.key: row.origin for row in load(**arguments).describe()}


def refused(**arguments: Any) -> str:
    arguments.setdefault("environ", {})
    with pytest.raises(ConfigError) as caught:
        load(**arguments)
    return str(caught.value)


SOURCES = ("file", "environment", "argument")  # from the weakest to the strongest
ORIGIN = {"file": "perdure.toml", "environment": "PERDURE_SCHEDULING_BATCH_SIZE", "argument": "argument"}


@pytest.mark.parametrize("given", [given for n in range(4) for given in combinations(SOURCES, n)], ids="+".join)
def test_precedence_is_arguments_environment_file_defaults(given: tuple[str, ...], folder: Path) -> None:
    (folder / "perdure.toml").write_text("[scheduling]\nbatch_size = 11\n" if "file" in given else "")
    config = load(
        environ={"PERDURE_SCHEDULING_BATCH_SIZE": "12"} if "environment" in given else {},
        scheduling={"batch_size": 13} if "argument" in given else None,
    )
    strongest = given[-1] if given else None
    expected = {None: 500, "file": 11, "environment": 12, "argument": 13}
    assert config.scheduling.batch_size == expected[strongest]
    row = next(row for row in config.describe() if row.key == "scheduling.batch_size")
    assert row.origin == (ORIGIN[strongest] if strongest else "default")


@pytest.mark.parametrize("given", [given for n in range(4) for given in combinations(SOURCES, n)], ids="+".join)
def test_precedence_holds_for_the_connection_string_too(given: tuple[str, ...], folder: Path) -> None:
    (folder / "perdure.toml").write_text('dsn = "host=file"\n' if "file" in given else "")
    config = load(
        environ={"PERDURE_DSN": "host=environment"} if "environment" in given else {},
        dsn="host=argument" if "argument" in given else None,
    )
    assert config.dsn == (f"host={given[-1]}" if given else None)


def test_sources_are_merged_key_by_key(folder: Path) -> None:
    (folder / "perdure.toml").write_text("[scheduling]\nbatch_size = 1\npolling_delay = 2\n")
    config = load(environ={"PERDURE_SCHEDULING_SCHEDULER_RETRY_COUNT": "3"}, scheduling={"batch_size": 4})
    assert (config.scheduling.batch_size, config.scheduling.scheduler_retry_count) == (4, 3)
    assert config.scheduling.polling_delay == timedelta(seconds=2)


def test_a_wrong_value_is_reported_even_where_it_is_overridden(folder: Path) -> None:
    (folder / "perdure.toml").write_text("[scheduling]\nbatch_size = 0\n")
    assert refused(scheduling={"batch_size": 5}).startswith("scheduling.batch_size (perdure.toml): 0 is not allowed")


# --- which file ------------------------------------------------------------------------------------------------------


def test_the_named_file_is_read_and_no_other(folder: Path) -> None:
    (folder / "perdure.toml").write_text("[scheduling]\nbatch_size = 1\npolling_delay = 9\n")
    (folder / "other.toml").write_text("[scheduling]\nbatch_size = 2\n")
    for file in (folder / "other.toml", "other.toml"):
        config = load(file=file, environ={})
        assert config.scheduling.batch_size == 2
        assert config.scheduling.polling_delay == timedelta(seconds=1)
        assert origins(file=file)["scheduling.batch_size"] == str(file)


def test_perdure_toml_comes_before_pyproject_toml(folder: Path) -> None:
    (folder / "perdure.toml").write_text("[scheduling]\nbatch_size = 1\n")
    (folder / "pyproject.toml").write_text("[tool.perdure.scheduling]\nbatch_size = 2\npolling_delay = 9\n")
    config = load(environ={})
    assert config.scheduling.batch_size == 1
    assert config.scheduling.polling_delay == timedelta(seconds=1)


def test_pyproject_tomls_table_is_read_without_perdure_toml(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n[tool.perdure.scheduling]\nbatch_size = 2\n")
    assert load(environ={}).scheduling.batch_size == 2
    assert origins()["scheduling.batch_size"] == "pyproject.toml [tool.perdure]"
    assert load(environ={}, file="pyproject.toml").scheduling.batch_size == 2


@pytest.mark.parametrize("text", ["", "[project]\nname = 'x'\n", "[tool.ruff]\n", "tool = 1\n"])
def test_a_pyproject_toml_without_our_table_is_passed_over_unless_it_was_named(folder: Path, text: str) -> None:
    (folder / "pyproject.toml").write_text(text)
    assert set(origins().values()) == {"default"}
    assert refused(file="pyproject.toml") == "pyproject.toml: has no table [tool.perdure]"


def test_a_file_that_is_missing_is_an_error_only_when_it_was_named(folder: Path) -> None:
    assert set(origins().values()) == {"default"}
    assert refused(file="nowhere.toml") == "nowhere.toml: can't be read: No such file or directory"


def test_a_folder_is_no_settings_file(folder: Path) -> None:
    (folder / "perdure.toml").mkdir()
    assert refused() == "perdure.toml: can't be read: Is a directory"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.toml", b"dsn = \n", ("is not valid TOML", "line 1")),
        ("a.toml", b"x = 1\nx = 2\n", ("is not valid TOML", "line 2")),
        ("a.json", b'{"dsn": }', ("is not valid JSON", "line 1")),
        ("a.json", b'{"Scheduling": {"BatchSize": 1, "BatchSize": 2}}', ("'BatchSize' is there twice",)),
        ("a.json", b"[" * 100_000, ("is not valid JSON",)),
        ("a.json", b"", ("is not valid JSON",)),
        ("a.json", b"[]", ("a value of type list", "allowed is a mapping with the keys dsn, persistence")),
        ("a.json", b"null", ("is None; allowed is a mapping",)),
        ("a.toml", b"dsn = '\xff'", ("is not UTF-8 (byte 7)",)),
        ("a.yaml", b"dsn: x", ("a settings file ends in .toml or .json",)),
        ("pyproject.toml", b"[tool]\nperdure = 5", ("is 5; allowed is a mapping",)),
        ("a.toml", b"scheduling = 5", ("scheduling (a.toml): is 5; allowed is a mapping or a SchedulingConfig",)),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named_with_the_reason(
    folder: Path, name: str, content: bytes, words: tuple[str, ...]
) -> None:
    (folder / name).write_bytes(content)
    message = refused(file=name)
    assert name in message
    for word in words:
        assert word in message


def test_a_broken_files_text_is_not_in_the_error_nor_chained_to_it(folder: Path) -> None:
    for name in ("a.toml", "a.json"):
        (folder / name).write_text('{"dsn": "postgresql://ann:s3cr3t@db", ]')
        with pytest.raises(ConfigError) as caught:
            load(file=name, environ={})
        assert "s3cr3t" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


# --- what a file may hold --------------------------------------------------------------------------------------------

PERSISTENCE = {"SchemaName": "jobs"}
SCHEDULING = {
    "BatchSize": 100,
    "PollingDelay": "00:00:00.500",
    "SchedulerRetryCount": 3,
    "SchedulerRetryDelays": [1, 2, 3],
}
EXECUTION = {"MaxRetryCount": 2}


def check_source_document(**arguments: Any) -> None:
    config = load(environ={}, **arguments)
    assert config.persistence.schema_name == "jobs"
    assert config.scheduling.batch_size == 100
    assert config.scheduling.polling_delay == timedelta(milliseconds=500)
    assert config.scheduling.scheduler_retry_count == 3
    assert list(config.scheduling.scheduler_retry_delays) == [1, 2, 3]
    assert config.execution.max_retry_count == 2


def test_the_source_documents_json_loads_unchanged(folder: Path) -> None:
    file = folder / "settings.json"
    file.write_text(json.dumps({"Persistence": PERSISTENCE, "Scheduling": SCHEDULING, "Execution": EXECUTION}))
    check_source_document(file=file)


def test_the_source_documents_json_loads_unchanged_as_sections_given_in_code() -> None:
    check_source_document(persistence=PERSISTENCE, scheduling=SCHEDULING, execution=EXECUTION)


@pytest.mark.parametrize("section", [PERSISTENCE, SCHEDULING, EXECUTION])
def test_each_section_of_the_source_document_is_a_file_by_itself(folder: Path, section: dict[str, object]) -> None:
    file = folder / "settings.json"
    file.write_text(json.dumps(section))
    others = {"persistence": PERSISTENCE, "scheduling": SCHEDULING, "execution": EXECUTION}
    check_source_document(file=file, **{name: other for name, other in others.items() if other is not section})


def test_a_section_alone_is_checked_like_any(folder: Path) -> None:
    (folder / "a.json").write_text('{"BatchSize": 0, "PolingDelay": 1, "MaxRetryCount": 1}')
    message = refused(file="a.json")
    assert "scheduling.batch_size (a.json): 0 is not allowed" in message
    assert "'PolingDelay' (scheduling, a.json): unknown key; did you mean PollingDelay?" in message
    assert (
        "'MaxRetryCount' (scheduling, a.json): unknown key; MaxRetryCount is a key of the section Execution" in message
    )


def test_a_setting_beside_the_sections_is_refused_with_the_section_it_belongs_to(folder: Path) -> None:
    (folder / "a.json").write_text('{"Scheduling": {"BatchSize": 1}, "SchemaName": "jobs"}')
    assert refused(file="a.json") == (
        "'SchemaName' (a.json): unknown key; SchemaName is a key of the section Persistence; "
        "allowed are Dsn, Persistence, Scheduling, Execution"
    )


def test_a_timespan_of_more_than_a_day_loads(folder: Path) -> None:
    (folder / "a.json").write_text('{"Execution": {"MaxStall": "1.02:03:04"}}')
    assert load(file="a.json", environ={}).execution.max_stall == timedelta(days=1, hours=2, minutes=3, seconds=4)


def test_snake_case_json_loads(folder: Path) -> None:
    (folder / "a.json").write_text('{"dsn": "host=db", "scheduling": {"batch_size": 5, "polling_delay": 0.25}}')
    config = load(file="a.json", environ={})
    assert (config.dsn, config.scheduling.batch_size) == ("host=db", 5)
    assert config.scheduling.polling_delay == timedelta(milliseconds=250)


def test_a_byte_order_mark_is_no_part_of_the_file(folder: Path) -> None:
    for name, text in (("a.json", '{"Execution": {"Threads": 5}}'), ("a.toml", "[execution]\nthreads = 5\n")):
        (folder / name).write_bytes(text.encode("utf-8-sig"))
        assert load(file=name, environ={}).execution.threads == 5


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_json_that_is_no_number_is_refused(folder: Path, number: str) -> None:
    (folder / "a.json").write_text(f'{{"scheduling": {{"polling_delay": {number}, "batch_size": {number}}}}}')
    message = refused(file="a.json")
    assert "scheduling.polling_delay (a.json): " in message
    assert "scheduling.batch_size (a.json): " in message


def test_a_toml_time_without_quotes_is_refused_with_the_remedy(folder: Path) -> None:
    (folder / "a.toml").write_text("[scheduling]\npolling_delay = 00:00:00.500\n")
    assert "put it in quotes" in refused(file="a.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sheduling]\n", "'sheduling' (a.toml): unknown key; did you mean scheduling?; allowed are dsn, persistence"),
        ("batch_size = 5\n", "'batch_size' (a.toml): unknown key; batch_size is a key of the section scheduling"),
        (
            "password = 's3cr3t'\n",
            "'password' (a.toml): unknown key; allowed are dsn, persistence, scheduling, execution",
        ),
        ("[scheduling]\nbatchsize = 5\n", "'batchsize' (scheduling, a.toml): unknown key; did you mean batch_size?"),
    ],
)
def test_an_unknown_key_in_a_file_is_named_with_the_file(folder: Path, text: str, words: str) -> None:
    (folder / "a.toml").write_text(text)
    message = refused(file="a.toml")
    assert message.startswith(words)
    assert "s3cr3t" not in message


# --- environment -----------------------------------------------------------------------------------------------------

TEXTS = {
    "dsn": ("host=db", "host=db"),
    "persistence.schema_name": ("My Jobs", "My Jobs"),
    "persistence.prepared_statements": ("false", False),
    "scheduling.polling_delay": ("00:00:05", "00:00:05"),
    "scheduling.notifications": ("False", False),
    "scheduling.scheduler_retry_delays": ("1, 2.5,00:01:00", [1, 2.5, 60]),
    "execution.lease_duration": ("20", "00:00:20"),
    "execution.shutdown_grace": ("0", "00:00:00"),
    "execution.cancel_grace": ("2.5", "00:00:02.500"),
    "execution.max_stall": ("1.00:00:00", "1.00:00:00"),
}


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_key_has_its_variable(variable: str) -> None:
    key = VARIABLES[variable]
    assert variable == f"PERDURE_{key.replace('.', '_').upper()}"
    text, shown = TEXTS.get(key, (" 7 ", 7))
    rows = {row.key: row for row in load(environ={variable: text}).describe()}
    assert rows[key] == (key, shown, variable)
    assert {row.origin for row in rows.values()} == {"default", variable}


def test_the_processes_own_environment_is_read_unless_another_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_SCHEDULING_BATCH_SIZE", "77")
    assert load().scheduling.batch_size == 77
    assert load(environ={}).scheduling.batch_size == 500


def test_an_empty_list_is_written_as_nothing() -> None:
    assert load(environ={"PERDURE_SCHEDULING_SCHEDULER_RETRY_DELAYS": ""}).scheduling.scheduler_retry_delays == ()


@pytest.mark.parametrize("variable", [name for name in VARIABLES if not name.endswith(("RETRY_DELAYS", "SCHEMA_NAME"))])
@pytest.mark.parametrize("text", ["", "x", "1_000", "٣", "nan", "1e400", "[1]", "yes", "1,2"])
def test_text_that_is_no_value_is_refused_with_the_variables_name(variable: str, text: str) -> None:
    message = refused(environ={variable: text})
    assert message.startswith(f"{VARIABLES[variable]} ({variable}): ")
    assert "allowed is " in message


@pytest.mark.parametrize("text", ["1,", ",", "1;2", "1,,2", "1,x", "-1", "[1,2]"])
def test_a_list_with_a_hole_or_a_stranger_in_it_is_refused(text: str) -> None:
    message = refused(environ={"PERDURE_SCHEDULING_SCHEDULER_RETRY_DELAYS": text})
    assert message.startswith(
        f"scheduling.scheduler_retry_delays (PERDURE_SCHEDULING_SCHEDULER_RETRY_DELAYS): {text!r} is not allowed"
    )
    assert "comma-separated in the environment" in message


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("PERDURE_SCHEDULING_BATCHSIZE", "PERDURE_SCHEDULING_BATCH_SIZE"),
        ("PERDURE_SHEDULING_BATCH_SIZE", "PERDURE_SCHEDULING_BATCH_SIZE"),
        ("PERDURE_SCHEDULER_BATCH_SIZE", "PERDURE_SCHEDULING_BATCH_SIZE"),
        ("PERDURE_BATCH_SIZE", "PERDURE_SCHEDULING_BATCH_SIZE"),
        ("PERDURE_SCHEDULER_RETRY_COUNT", "PERDURE_SCHEDULING_SCHEDULER_RETRY_COUNT"),
        ("PERDURE_SCHEMA_NAME", "PERDURE_PERSISTENCE_SCHEMA_NAME"),
        ("PERDURE_DNS", "PERDURE_DSN"),
    ],
)
def test_a_variable_that_was_meant_for_us_is_refused_with_a_suggestion(variable: str, meant: str) -> None:
    message = refused(environ={variable: "s3cr3t"})
    assert message.startswith(f"{variable} (environment): unknown variable; did you mean {meant}?")
    assert "s3cr3t" not in message


def test_an_unknown_key_of_a_section_in_the_environment_is_refused_with_the_allowed_ones() -> None:
    assert refused(environ={"PERDURE_PERSISTENCE_ZZZ": "1"}) == (
        "PERDURE_PERSISTENCE_ZZZ (environment): unknown variable; allowed are PERDURE_PERSISTENCE_SCHEMA_NAME, "
        "PERDURE_PERSISTENCE_PREPARED_STATEMENTS"
    )


@pytest.mark.parametrize(
    "variable",
    [
        "PERDURE_DEBUG",
        "PERDURE_TEST_DSN",
        "PERDURE_APP",
        "PERDURE",
        "PERDURE_",
        "MY_PERDURE_DSN",
        "perdure_dsn",
        "PATH",
    ],
)
def test_other_peoples_variables_are_left_alone(variable: str) -> None:
    assert set(origins(environ={variable: "x"}).values()) == {"default"}


def test_a_name_that_no_file_can_have_is_refused() -> None:
    assert refused(file="\ud800.toml") == "'\\ud800.toml': no file here can have this name"
