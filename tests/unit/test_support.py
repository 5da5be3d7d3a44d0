"""The tests' own ground holds: databases are fresh, servers survive what tests do to them, nothing leaks."""

from __future__ import annotations

import fcntl
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

if TYPE_CHECKING:
    from tests.support.cluster import Cluster
    from tests.support.processes import Processes


def _value(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("round_", [1, 2])
def test_a_database_is_fresh_for_each_test(database: str, round_: int) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create table once (id int)")


def test_the_shared_server_is_postgresql_18(database: str) -> None:
    assert str(_value(database, "show server_version")).startswith("18.")


def test_debians_server_is_postgresql_15(debian_cluster: Cluster) -> None:
    assert str(_value(debian_cluster.dsn(), "show server_version")).startswith("15.")


def test_a_migrated_database_has_the_jobs_table(every_migrated_database: str) -> None:
    assert _value(every_migrated_database, "select to_regclass('background_tasks.jobs') is not null") is True


def test_a_private_server_keeps_what_it_acknowledged_over_stop_and_kill(private_cluster: Cluster) -> None:
    dsn = private_cluster.dsn()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create table kept as select 1 as id")
    private_cluster.restart()
    private_cluster.kill()
    assert not private_cluster.is_running
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)
    private_cluster.start()
    private_cluster.restart("immediate")
    assert _value(dsn, "select count(*) from kept") == 1
    assert _value(private_cluster.socket_dsn(), "select count(*) from kept") == 1


def test_a_frozen_server_is_silent_until_it_is_thawed(private_cluster: Cluster) -> None:
    with psycopg.connect(private_cluster.dsn(), autocommit=True) as connection:
        private_cluster.freeze()
        connection.pgconn.send_query(b"select 1")
        silent, _, _ = select.select([connection.fileno()], [], [], 0.1)
        private_cluster.thaw()
        answered, _, _ = select.select([connection.fileno()], [], [], 10.0)
        while connection.pgconn.get_result():
            pass
    assert (silent, bool(answered)) == ([], True)


def test_lines_signals_and_exit_codes_of_processes(processes: Processes) -> None:
    code = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: exit(7))\nprint('ready', 5)\nsignal.pause()"
    process = processes.python("-c", code)
    assert process.wait_for_line(r"ready (\d)")[1] == "5"
    process.freeze()
    process.thaw()
    process.terminate()
    assert process.wait() == 7
    process.assert_no_child_left()
    with pytest.raises(AssertionError, match=r"ended without a line like 'never'.*exit code 7"):
        process.wait_for_line("never")


async def test_an_event_loop_goes_on_while_a_line_is_awaited(processes: Processes) -> None:
    process = processes.python("-c", "print('first'); print('second')")
    await process.line("second")
    assert await process.end() == 0
    assert process.output == "first\nsecond"


def test_an_orphan_is_found_and_named(processes: Processes) -> None:
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])"
    process = processes.python("-c", code)
    process._popen.wait()
    with pytest.raises(AssertionError, match=r"left processes behind: \d+ \(.*signal\.pause"):
        process.assert_no_child_left(within_seconds=0.1)
    (orphan,) = process.family()
    orphan.send_signal(signal.SIGKILL)
    orphan.wait()


def test_a_run_that_is_killed_leaves_no_server_behind(processes: Processes) -> None:
    code = (
        "import signal\n"
        "from tests.support.cluster import TestRun, wheel_binaries\n"
        "run = TestRun.begin()\n"
        "print('run', run.folder, run.new_cluster('pg', wheel_binaries()).pid, flush=True)\n"
        "signal.pause()\n"
    )
    owner = processes.python("-c", code)
    started = owner.wait_for_line(r"run (\S+) (\d+)")
    with Path(started[1], "guards.lock").open("rb") as guards:
        owner.kill()
        fcntl.flock(guards, fcntl.LOCK_EX)  # until the guard has ended
    assert not psutil.pid_exists(int(started[2]))
    assert not Path(started[1]).exists()
