"""Tables: whole in a pipe, coloured and cut to fit on a terminal, where what tells jobs apart is cut last."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.cli.terminal import on_terminal

if TYPE_CHECKING:
    from tests.cli.conftest import CommandLine, Ended

_ERROR = "ValueError: [red]no[/red] \x1b[2J" + "so many words " * 30
_SEEN = _ERROR.replace("\x1b", "\\x1b").strip()


@pytest.fixture
def perdure_jobs(perdure_db: CommandLine) -> CommandLine:
    """The command line on a database with a failed job, a suspended one, and one that is due later."""
    for _number in range(3):
        assert perdure_db.inside("jobs", "start", "orders.import", "null", "--execution-metadata", "null").code == 0
    changes = {
        1: "state = 3, last_error = %(error)s, progress = %(progress)s",
        2: "state = 4, scheduled_at = null",
        3: "scheduled_at = '2100-01-31T08:00Z'",
    }
    values = {"error": _ERROR, "progress": '{"done": 1, "total": 4, "note": null, "at": "2030-01-01T00:00:00Z"}'}
    with psycopg.connect(perdure_db.environment["PERDURE_DSN"], autocommit=True) as connection:
        for job_id, change in changes.items():
            connection.execute(f"update background_tasks.jobs set {change} where id = {job_id}".encode(), values)
    return perdure_db


def _lines(ended: Ended) -> list[str]:
    assert (ended.code, ended.err) == (0, "")
    return re.sub(r"\x1b\[[0-9;]*m", "", ended.out).splitlines()


def test_in_a_pipe_nothing_is_cut_nor_padded_nor_coloured(perdure_jobs: CommandLine) -> None:
    shown = perdure_jobs("jobs", "list", TERM="xterm-256color", COLUMNS="40").out
    assert shown.splitlines()[-1].endswith(_SEEN)
    assert "\x1b" not in shown
    assert all(line == line.rstrip() for line in shown.splitlines())


def test_when_each_is_due_is_told(perdure_jobs: CommandLine) -> None:
    header, *rows = perdure_jobs("jobs", "list", TZ="Asia/Kathmandu").out.splitlines()
    due = slice(header.index("due"), header.index("progress"))
    assert [row[due].strip() for row in rows] == ["2100-01-31 13:45:00+05:45", "when proceeded", "now"]


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_a_row_is_one_line_and_the_widest_cells_are_cut(perdure_jobs: CommandLine, columns: int) -> None:
    header, _rule, *rows = _lines(on_terminal(perdure_jobs, "jobs", "list", columns=columns))
    assert header.split() == ["id", "name", "state", "queue", "attempt", "due", "progress", "last", "error"]
    assert [row.split()[:1] for row in rows] == [["3"], ["2"], ["1"]]
    assert [row.split()[2] for row in rows] == ["pending", "suspended", "retrying"]
    assert all(len(line.rstrip()) <= columns for line in [header, *rows])
    assert rows[-1].rstrip().endswith("…")


def test_on_a_terminal_a_state_has_its_colour_and_a_jobs_text_has_none(perdure_jobs: CommandLine) -> None:
    shown = on_terminal(perdure_jobs, "jobs", "list", columns=400).out
    assert "\x1b[33m" in shown, "a job that is retried is yellow"
    assert "[red]no[/red] \\x1b[2J" in shown
    assert "\x1b[31m" not in shown
    assert "\x1b[2J" not in shown


def test_with_no_color_a_terminal_gets_none(perdure_jobs: CommandLine) -> None:
    plain = type(perdure_jobs)(perdure_jobs.folder, perdure_jobs.environment | {"NO_COLOR": "1"})
    assert not re.search(r"\x1b\[3\dm", on_terminal(plain, "jobs", "list").out)
