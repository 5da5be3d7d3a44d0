"""Whatever goes wrong ends in one line on standard error and exit code 1; --debug shows the traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import psycopg
import pytest

from perdure.cli.errors import Failure, as_click_error
from perdure.errors import ConfigError
from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import CommandLine, Ended
    from tests.support.cluster import Cluster
    from tests.support.processes import Processes

_COMMANDS = [
    ["migrate"],
    ["migrate", "--check"],
    ["migrate", "shop:app"],
    ["jobs", "list"],
    ["jobs", "list", "--output", "json"],
    ["jobs", "show", "1"],
    ["jobs", "watch", "1"],
    ["jobs", "proceed", "1"],
    ["jobs", "cancel", "1"],
    ["jobs", "start", "--app", "shop:app", "orders.approve"],
]


def _line(ended: Ended) -> str:
    assert ended.code == 1, ended
    assert ended.out == ""
    assert ended.err.startswith("Error: ")
    assert ended.err.count("\n") == 1, ended.err
    return ended.err


@pytest.mark.parametrize("command", [pytest.param(command, id=" ".join(command)) for command in _COMMANDS])
def test_a_database_that_is_away_is_said_in_one_line(perdure: CommandLine, command: list[str]) -> None:
    line = _line(perdure.inside(*command))
    assert "no connection to the database" in line
    assert "127.0.0.1" in line


def test_so_it_is_as_a_process(perdure: CommandLine) -> None:
    assert "no connection to the database" in _line(perdure("jobs", "list"))


def test_a_dsn_argument_comes_before_the_environment(perdure: CommandLine) -> None:
    assert "port 2 failed" in _line(perdure("jobs", "list", "--dsn", "postgresql://nobody@127.0.0.1:2/nowhere"))


def test_debug_shows_where_it_failed(perdure: CommandLine) -> None:
    ended = perdure("jobs", "list", "--debug")
    assert ended.code == 1
    assert "Traceback (most recent call last):" in ended.err
    assert "perdure.errors.DatabaseUnavailable" in ended.err
    assert ended.err.splitlines()[-1].startswith("Error: no connection to the database")


@pytest.mark.parametrize("command", [["jobs", "list"], ["jobs", "cancel", "1"], ["migrate", "--check"]])
def test_a_database_without_the_schema_is_said_with_what_to_do(
    folder: Path, database: str, command: list[str], perdure: CommandLine
) -> None:
    line = _line(perdure.inside(*command, PERDURE_DSN=database))
    assert "run `perdure migrate`" in line


def test_a_database_that_goes_away_ends_the_watching_with_a_line(
    processes: Processes, private_cluster: Cluster, perdure: CommandLine
) -> None:
    dsn = private_cluster.dsn(private_cluster.create_database())
    migrate_database(dsn)
    started = perdure.inside("jobs", "start", "--app", "shop:app", "orders.approve", PERDURE_DSN=dsn)
    assert started.code == 0, started.err
    watching = processes.perdure("jobs", "watch", "1", cwd=perdure.folder, env={"PERDURE_DSN": dsn})
    watching.wait_for_line("pending")
    private_cluster.stop()
    watching.wait_for_line("^Error: .*database")
    assert watching.wait() == 1
    assert "Traceback" not in watching.output


def test_a_wrong_setting_is_said_in_one_line(perdure: CommandLine) -> None:
    line = _line(perdure.inside("jobs", "list", PERDURE_SCHEDULING_BATCH_SIZE="0"))
    assert "scheduling.batch_size (PERDURE_SCHEDULING_BATCH_SIZE)" in line


def test_a_password_is_never_printed(perdure: CommandLine) -> None:
    for command in (["jobs", "list"], ["jobs", "list", "--debug"], ["doctor"]):
        ended = perdure(*command, PERDURE_DSN="postgresql://nobody:s3cret@127.0.0.1:1/nowhere")
        assert ended.code == 1
        assert "s3cret" not in ended.out + ended.err


def test_a_reader_that_has_gone_is_no_error(perdure: CommandLine) -> None:
    # As in `perdure migrate --sql | head -0`.
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-c", "from perdure.cli import main; main()", "migrate", "--sql"],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=perdure.folder,
    )
    os.close(writer)
    _nothing, errors = process.communicate(timeout=50)
    assert errors == b""


def test_errors_of_the_driver_are_told_as_the_databases(folder: Path) -> None:
    shown = as_click_error(psycopg.errors.InsufficientPrivilege("permission denied\nfor table jobs"))
    assert isinstance(shown, Failure)
    assert shown.message == "the database said: permission denied for table jobs"


def test_what_should_not_have_happened_says_so() -> None:
    shown = as_click_error(KeyError("x"))
    assert str(shown) == "KeyError: 'x' (this should not have happened; --debug shows where it did)"


def test_an_error_alone_in_groups_is_taken_out() -> None:
    error = ConfigError("no such setting")
    assert str(as_click_error(ExceptionGroup("outer", [ExceptionGroup("inner", [error])]))) == "no such setting"


def test_clicks_own_errors_stay_as_they_are() -> None:
    for error in (click.UsageError("x"), click.exceptions.Exit(3), BrokenPipeError(32, "gone")):
        assert as_click_error(error) is error


def test_controls_in_other_peoples_text_are_escaped() -> None:
    shown = as_click_error(ConfigError("a\x1b[31m\nb\u202e"))
    assert isinstance(shown, Failure)
    assert shown.format_message() == "a\\x1b[31m\nb\\u202e"
