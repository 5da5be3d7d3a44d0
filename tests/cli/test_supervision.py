"""`perdure worker`, as one process and as several: real processes, stopped, killed and hurried."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.migrated import migrate_database
from tests.support.waiting import still_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import CommandLine
    from tests.support.cluster import Cluster
    from tests.support.processes import Process, Processes

NOWHERE = "postgresql://nobody@127.0.0.1:1/nowhere"


@pytest.fixture
def start_worker(processes: Processes, folder: Path, migrated_database: str) -> Callable[..., Process]:
    """Start `perdure worker shop:app …` on a migrated database, in a folder that holds shop.py."""

    def start(*arguments: str, dsn: str = migrated_database) -> Process:
        return processes.perdure("worker", *(arguments or ["shop:app"]), env={"PERDURE_DSN": dsn}, cwd=folder)

    return start


def _children(process: Process) -> list[psutil.Process]:
    """The worker processes of a supervisor, in the order of their start."""
    found = psutil.Process(process.pid).children()
    return sorted(found, key=lambda child: child.create_time())


def _said(process: Process) -> list[str]:
    """What it said beside that it starts."""
    return [line for line in process.output.splitlines() if " INFO perdure.worker " not in line]


def _wait_for_jobs(folder: Path) -> None:
    """Let workers wait for their running jobs as long as it takes."""
    shop = (folder / "shop.py").read_text(encoding="utf-8")
    (folder / "shop.py").write_text(shop.replace('"shutdown_grace": 0.2', '"shutdown_grace": 600'), encoding="utf-8")


# --- one process -----------------------------------------------------------------------------------------------------


def test_it_says_ready_once_and_what_it_serves(start_worker: Callable[..., Process]) -> None:
    worker = start_worker("shop:app", "--queues", "default,slow", "--concurrency", "7")
    worker.wait_for_line(rf"^ready: 4 tasks, queues default, slow, 7 jobs at once \(process {worker.pid}\)$")
    worker.terminate()
    assert worker.wait() == 0
    assert worker.output.count("ready") == 1, worker.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_either_signal_ends_it_with_0_and_the_job_keeps_its_checkpoint(
    start_worker: Callable[..., Process], perdure_db: CommandLine, number: signal.Signals
) -> None:
    perdure_db.inside("jobs", "start", "--app", "shop:app", "orders.wait")
    worker = start_worker()
    worker.wait_for_line("waiting in process")
    worker.send(number)
    assert worker.wait() == 0, worker.output
    assert "Traceback" not in worker.output
    assert perdure_db.inside("jobs", "show", "1", "--output", "json").json["state"] == "pending"


def test_queues_are_the_only_ones_that_it_serves(start_worker: Callable[..., Process], perdure_db: CommandLine) -> None:
    perdure_db.inside("jobs", "start", "--app", "shop:app", "orders.import", '{"shop": "riga"}')
    perdure_db.inside("jobs", "start", "--app", "shop:app", "orders.import", '{"shop": "riga"}', "--queue", "slow")
    worker = start_worker("shop:app", "--queues", "slow")
    assert perdure_db.inside("jobs", "watch", "2").code == 0
    assert perdure_db.inside("jobs", "show", "1", "--output", "json").json["state"] == "pending"
    worker.terminate()
    assert worker.wait() == 0


def test_it_waits_for_a_database_that_is_away_says_so_once_and_then_serves(
    start_worker: Callable[..., Process], private_cluster: Cluster
) -> None:
    dsn = private_cluster.dsn(private_cluster.create_database())
    migrate_database(dsn)
    private_cluster.stop()
    worker = start_worker(dsn=dsn)
    worker.wait_for_line("no connection to the database: .*waiting for it")
    private_cluster.start()
    worker.wait_for_line("^ready")
    worker.terminate()
    assert worker.wait() == 0
    assert worker.output.count("waiting for it") == 1, worker.output


def test_waiting_for_a_database_it_can_be_stopped(start_worker: Callable[..., Process]) -> None:
    worker = start_worker(dsn=NOWHERE)
    worker.wait_for_line("waiting for it")
    worker.terminate()
    assert worker.wait() == 0, worker.output


def test_a_schema_that_is_behind_ends_it_with_1_and_a_line(start_worker: Callable[..., Process], database: str) -> None:
    worker = start_worker(dsn=database)
    assert worker.wait() == 1
    assert "perdure migrate" in worker.output
    assert len(_said(worker)) == 1, worker.output


def test_what_jobs_log_is_written_plainly(start_worker: Callable[..., Process], perdure_db: CommandLine) -> None:
    perdure_db.inside("jobs", "start", "--app", "shop:app", "orders.raise")
    worker = start_worker()
    worker.wait_for_line(rf"^\d{{4}}-\d\d-\d\d [\d:,]+ \w+ perdure[\w.]* \[{worker.pid}\] .*orders\.raise")
    worker.terminate()
    assert worker.wait() == 0
    assert "\x1b" not in worker.output


# --- several processes -----------------------------------------------------------------------------------------------


def test_several_say_ready_once_together_and_stop_together(start_worker: Callable[..., Process]) -> None:
    worker = start_worker("shop:app", "--processes", "3", "--queues", "default")
    worker.wait_for_line("^ready: 3 processes, each with 4 tasks, queue default, 100 jobs at once$")
    assert len(_children(worker)) == 3
    worker.terminate()
    assert worker.wait() == 0, worker.output
    worker.assert_no_child_left()
    assert worker.output.count("ready") == 1, worker.output


def test_they_are_new_interpreters_that_a_module_beside_the_app_cant_break(
    processes: Processes, folder: Path, migrated_database: str
) -> None:
    (folder / "queue.py").write_text("raise RuntimeError('this is none of Python')", encoding="utf-8")
    # -P: as for the script `perdure`, the current folder is not on the path.
    code = "from perdure.cli import main; main()"
    command = ["-P", "-c", code, "worker", "shop:app", "--processes", "2"]
    worker = processes.python(*command, env={"PERDURE_DSN": migrated_database}, cwd=folder)
    worker.wait_for_line("^ready")
    for child in _children(worker):
        assert child.cmdline()[1:6] == ["-P", "-m", "perdure.cli", "worker", "shop:app"]
    worker.terminate()
    assert worker.wait() == 0


def test_one_that_is_killed_is_started_again_and_serves(
    start_worker: Callable[..., Process], perdure_db: CommandLine
) -> None:
    worker = start_worker("shop:app", "--processes", "2")
    worker.wait_for_line("^ready")
    killed = _children(worker)[0].pid
    psutil.Process(killed).kill()
    worker.wait_for_line(rf"worker process 1 \({killed}\) was killed by SIGKILL; it is started again in 0\.\d s")
    worker.wait_for_line(r"worker process 1 \(\d+\) serves again")
    assert killed not in [child.pid for child in _children(worker)]
    perdure_db.inside("jobs", "start", "--app", "shop:app", "orders.import", '{"shop": "riga"}')
    assert perdure_db.inside("jobs", "watch", "1").code == 0
    worker.terminate()
    assert worker.wait() == 0, worker.output


def test_one_that_keeps_dying_is_started_again_at_growing_delays(start_worker: Callable[..., Process]) -> None:
    worker = start_worker("shop:app", "--processes", "2")
    worker.wait_for_line("^ready")
    delays: list[float] = []
    for _again in range(3):
        _children(worker)[-1].kill()  # the youngest is the one that was started again
        found = worker.wait_for_line(r"worker process \d .* started again in ([\d.]+) s")
        delays.append(float(found[1]))
        worker.wait_for_line("serves again")
    assert 0.4 <= delays[0] <= 0.6
    assert delays[0] < delays[1] < delays[2], delays
    worker.terminate()
    assert worker.wait() == 0


def test_a_second_signal_is_passed_on_and_skips_the_grace(
    start_worker: Callable[..., Process], perdure_db: CommandLine, folder: Path
) -> None:
    _wait_for_jobs(folder)
    worker = start_worker("shop:app", "--processes", "2")
    worker.wait_for_line("^ready")
    perdure_db.inside("jobs", "start", "--app", "shop:app", "orders.wait")
    worker.wait_for_line("waiting in process")
    worker.terminate()
    for _process in range(2):
        worker.wait_for_line("SIGTERM: stopping")
    worker.terminate()
    assert worker.wait() == 0, worker.output
    assert "SIGTERM again: stopping without further grace" in worker.output
    worker.assert_no_child_left()
    assert perdure_db.inside("jobs", "show", "1", "--output", "json").json["state"] == "pending"


def test_ctrl_c_in_a_terminal_which_signals_the_whole_group_counts_once(
    start_worker: Callable[..., Process], perdure_db: CommandLine, folder: Path
) -> None:
    _wait_for_jobs(folder)
    worker = start_worker("shop:app", "--processes", "2")
    worker.wait_for_line("^ready")
    perdure_db.inside("jobs", "start", "--app", "shop:app", "orders.wait")
    worker.wait_for_line("waiting in process")
    assert worker.pid not in {os.getpgid(child.pid) for child in _children(worker)}
    os.killpg(worker.pid, signal.SIGINT)
    for _process in range(2):
        worker.wait_for_line("SIGINT: stopping")
    assert worker.is_running
    assert "again" not in worker.output
    os.killpg(worker.pid, signal.SIGINT)
    assert worker.wait() == 0, worker.output
    assert "SIGINT again: stopping without further grace" in worker.output


def test_when_the_supervisor_is_killed_its_processes_stop_by_themselves(start_worker: Callable[..., Process]) -> None:
    worker = start_worker("shop:app", "--processes", "2")
    worker.wait_for_line("^ready")
    children = _children(worker)
    worker.kill()
    wait_until(lambda: not still_alive(children), "outlived their supervisor")


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [("shpo:app", 2, "there is no module 'shpo'"), ("bad:app", 1, "importing 'bad' failed: ValueError: no")],
)
def test_an_app_that_cant_be_had_is_said_once_and_ends_them_all(
    start_worker: Callable[..., Process], folder: Path, target: str, code: int, said: str
) -> None:
    (folder / "bad.py").write_text("raise ValueError('no')", encoding="utf-8")
    worker = start_worker(target, "--processes", "3")
    assert worker.wait() == code, worker.output
    assert said in worker.output
    assert worker.output.count("\n") == 0, worker.output


def test_a_schema_that_is_behind_ends_them_all(start_worker: Callable[..., Process], database: str) -> None:
    worker = start_worker("shop:app", "--processes", "3", dsn=database)
    assert worker.wait() == 1
    assert worker.output.count("perdure migrate") == 1, worker.output


def test_several_say_once_that_the_database_is_away_and_can_be_stopped(start_worker: Callable[..., Process]) -> None:
    worker = start_worker("shop:app", "--processes", "3", dsn=NOWHERE)
    worker.wait_for_line("waiting for it")
    worker.terminate()
    assert worker.wait() == 0, worker.output
    assert worker.output.count("waiting for it") == 1, worker.output
    worker.assert_no_child_left()
