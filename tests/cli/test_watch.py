"""`perdure jobs watch` follows a job to its end: lines in a pipe, a live bar on a terminal, the end as exit code."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.cli.terminal import on_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import CommandLine
    from tests.support.processes import Process, Processes

_PAGES = '{"shop": "riga", "pages": 3}'
_WATCHED = "select count(*) from pg_stat_activity where application_name = 'watching'"
_SLOW = f"""\
from shop import *

@app.task("orders.slow")
async def slow(ctx: Context[None, Progress]) -> int:
    while True:
        async with ctx.transaction() as connection:
            if (await (await connection.execute("{_WATCHED}")).fetchone())[0]:
                break
        await asyncio.sleep(0.05)
    for page in range(1, 4):
        await ctx.progress(page * 100, 300, f"[b]page[/b] {{page}}")
        await asyncio.sleep(1.05)
    return 3
"""


@pytest.fixture
def worker(processes: Processes, folder: Path, perdure_db: CommandLine) -> Process:
    """A worker of the app, ready."""
    (folder / "slow.py").write_text(_SLOW, encoding="utf-8")
    started = processes.perdure("worker", "slow:app", cwd=folder, env=perdure_db.environment)
    started.wait_for_line("ready")
    return started


def _start(perdure: CommandLine, *arguments: str) -> None:
    assert perdure.inside("jobs", "start", "--app", "slow:app", *arguments).code == 0


def _watching(perdure: CommandLine) -> CommandLine:
    """The command line as the slow task knows it: that begins when somebody is watching, however busy the machine."""
    dsn = make_conninfo(perdure.environment["PERDURE_DSN"], application_name="watching")
    return replace(perdure, environment={"PERDURE_DSN": dsn})


def _without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.usefixtures("worker")
def test_in_a_pipe_each_change_is_a_line_with_rate_and_remaining_time(perdure_db: CommandLine) -> None:
    _start(perdure_db, "orders.slow")
    ended = _watching(perdure_db)("jobs", "watch", "1", "--interval", "0.1")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert all(line.startswith("job 1 (orders.slow): ") for line in lines)
    assert lines[-1].startswith("job 1 (orders.slow): completed")
    told = [line for line in lines if "running" in line]
    assert any(
        re.search(r"\d00 of 300 \(\d\d%\), [\d.]+/s, 0:00:0\d left, \[b\]page\[/b\] \d", line) for line in told
    ), lines
    assert len(lines) == len(set(lines)), "a line is printed for a change, and only then"


@pytest.mark.usefixtures("worker")
def test_on_a_terminal_a_live_bar_shows_rate_and_remaining_time(perdure_db: CommandLine) -> None:
    _start(perdure_db, "orders.slow")
    ended = on_terminal(_watching(perdure_db), "jobs", "watch", "1", "--interval", "0.1")
    assert (ended.code, ended.err) == (0, "")
    assert "━" in ended.out
    plain = _without_escapes(ended.out)
    assert re.search(
        r"job 1 orders\.slow ━+.* running, \d00 of 300 \(\d\d%\), [\d.]+/s, 0:00:0\d left, "
        r"\[b\]page\[/b\] \d",
        plain,
    )
    assert plain.rstrip().endswith("completed, 300 of 300 (100%), [b]page[/b] 3")


@pytest.mark.usefixtures("worker")
def test_on_a_narrow_terminal_the_note_is_cut_off_before_the_remaining_time(perdure_db: CommandLine) -> None:
    _start(perdure_db, "orders.slow")
    ended = on_terminal(_watching(perdure_db), "jobs", "watch", "1", "--interval", "0.1", columns=80)
    frames = _without_escapes(ended.out).replace("\r", "\n").splitlines()
    assert any(re.search(r"running, \d00 of 300 \(\d\d%\), [\d.]+/s, 0:00:0\d left", frame) for frame in frames), frames
    assert all(len(frame) <= 80 for frame in frames)


@pytest.mark.usefixtures("worker")
def test_json_is_an_object_a_line(perdure_db: CommandLine) -> None:
    _start(perdure_db, "orders.import", _PAGES)
    ended = perdure_db.inside("jobs", "watch", "1", "--output", "json")
    assert ended.code == 0
    jobs = [json.loads(line) for line in ended.out.splitlines()]
    assert {job["id"] for job in jobs} == {1}
    assert (jobs[-1]["state"], jobs[-1]["result"]) == ("completed", 3)


@pytest.mark.usefixtures("worker")
def test_a_job_that_fails_ends_it_with_1(perdure_db: CommandLine) -> None:
    _start(perdure_db, "orders.import", '{"shop": "closed"}')
    ended = perdure_db.inside("jobs", "watch", "1")
    assert ended.code == 1
    assert ended.out.splitlines()[-1].startswith("job 1 (orders.import): failed")


def test_a_job_that_is_cancelled_meanwhile_ends_it_with_1(
    perdure_db: CommandLine, processes: Processes, folder: Path
) -> None:
    assert perdure_db.inside("jobs", "start", "--app", "shop:app", "orders.approve", "--at", "1:00:00").code == 0
    watching = processes.perdure("jobs", "watch", "1", cwd=folder, env=perdure_db.environment)
    watching.wait_for_line(r"^job 1 \(orders.approve\): pending$")
    perdure_db.inside("jobs", "cancel", "1")
    watching.wait_for_line(r"^job 1 \(orders.approve\): cancelled$")
    assert watching.wait() == 1


def test_a_job_that_waits_says_until_when(perdure_db: CommandLine) -> None:
    assert perdure_db.inside("jobs", "start", "--app", "shop:app", "orders.approve").code == 0
    with psycopg.connect(perdure_db.environment["PERDURE_DSN"], autocommit=True) as connection:
        connection.execute("update background_tasks.jobs set state = 4, scheduled_at = '2100-01-31T08:00Z'")
    table = perdure_db("jobs", "list", TZ="Asia/Kathmandu").out
    assert "2100-01-31 13:45:00+05:45" in table
    with psycopg.connect(perdure_db.environment["PERDURE_DSN"], autocommit=True) as connection:
        connection.execute("update background_tasks.jobs set scheduled_at = null")
    assert "when proceeded" in perdure_db("jobs", "list").out


def test_interrupting_ends_the_watching_and_not_the_job(
    perdure_db: CommandLine, processes: Processes, folder: Path
) -> None:
    assert perdure_db.inside("jobs", "start", "--app", "shop:app", "orders.approve", "--at", "1:00:00").code == 0
    watching = processes.perdure("jobs", "watch", "1", cwd=folder, env=perdure_db.environment)
    watching.wait_for_line("pending")
    watching.send(signal.SIGINT)
    assert watching.wait() == 1
    assert "Traceback" not in watching.output
    assert perdure_db.inside("jobs", "show", "1", "--output", "json").json["state"] == "pending"
