"""spec: `perdure config` prints the effective values and where each came from; passwords are never printed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from perdure.cli.config import config
from perdure.config import load
from perdure.config.keys import VARIABLES

if TYPE_CHECKING:
    from pathlib import Path

ENVIRON = {"PERDURE_DSN": "postgresql://ann:s3cr3t@db/shop", "PERDURE_PERSISTENCE_SCHEMA_NAME": "[red]jobs"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the test, with settings of its own; no variables from outside."""
    monkeypatch.chdir(tmp_path)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "perdure.toml").write_text("[scheduling]\nbatch_size = 7\n")
    return tmp_path


def run(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(config, arguments, env=environ)


def test_the_table_shows_each_key_value_and_origin() -> None:
    result = run(environ=ENVIRON)
    assert result.exit_code == 0
    header, *rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert header == "key value from"
    assert [row.split()[0] for row in rows] == list(VARIABLES.values())
    assert "dsn postgresql://ann:***@db/shop PERDURE_DSN" in rows
    assert "persistence.schema_name [red]jobs PERDURE_PERSISTENCE_SCHEMA_NAME" in rows
    assert "scheduling.batch_size 7 perdure.toml" in rows
    assert "scheduling.scheduler_retry_delays 60, 120, 300, 600 default" in rows
    assert "s3cr3t" not in result.output


def test_without_a_connection_string_the_table_says_what_is_used_instead() -> None:
    assert "none: the embedded PostgreSQL in ./.perdure" in run().stdout


def test_json_holds_the_rows_of_describe() -> None:
    result = run("--output", "json", environ=ENVIRON)
    assert json.loads(result.stdout) == [row._asdict() for row in load(environ=ENVIRON).describe()]
    assert "s3cr3t" not in result.output


def test_a_long_value_is_not_cut_where_the_output_is_no_terminal() -> None:
    assert "n" * 63 in run(environ={"PERDURE_PERSISTENCE_SCHEMA_NAME": "n" * 63}).stdout


def test_an_apps_own_arguments_are_shown_with_the_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config_shop.py").write_text("from perdure import App\napp = App(scheduling={'polling_delay': 0.5})\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "config_shop", raising=False)
    rows = json.loads(run("config_shop:app", "--output", "json").stdout)
    assert {"key": "scheduling.polling_delay", "value": "00:00:00.500", "origin": "argument"} in rows
    assert {"key": "scheduling.batch_size", "value": 7, "origin": "perdure.toml"} in rows
    assert {"key": "execution.threads", "value": 32, "origin": "default"} in rows


def test_an_app_and_a_file_at_once_are_a_usage_error() -> None:
    result = run("shop:app", "--file", "settings.json")
    assert result.exit_code == 2
    assert result.stderr == "Error: --file and shop:app: give one of them, since an app knows its file\n"


def test_another_file_can_be_named(folder: Path) -> None:
    (folder / "settings.json").write_text('{"BatchSize": 8}')
    result = run("--file", "settings.json", "--output", "json")
    assert {"key": "scheduling.batch_size", "value": 8, "origin": "settings.json"} in json.loads(result.stdout)


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_mistake_is_one_clear_message_and_exit_code_1(output: str) -> None:
    result = run("--output", output, environ={"PERDURE_EXECUTION_THREADS": "0"})
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: execution.threads (PERDURE_EXECUTION_THREADS): '0' is not allowed")


def test_an_output_that_does_not_exist_is_a_usage_error() -> None:
    assert run("--output", "yaml").exit_code == 2
