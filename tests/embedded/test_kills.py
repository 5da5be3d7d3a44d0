"""Whoever is killed, at whatever moment: nothing leaks, and the next start recovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from perdure import embedded
from perdure.embedded.folder import State
from perdure.embedded.locks import holder, signal_holder
from perdure.errors import EmbeddedError
from tests.embedded.homes import Home, answers, change, query, url_of
from tests.support.waiting import kill_all, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster import Cluster

# How far the first set-up has come.
_MOMENTS: dict[str, Callable[[Home], bool]] = {
    "before it": lambda home: holder(home.folder.keeper) is not None,
    "in initdb": lambda home: any(draft.joinpath("data", "global").exists() for draft in home.drafts()),
    "while the database is made": lambda home: any(
        draft.joinpath("data", "base", "5").exists() for draft in home.drafts()
    ),
    "at the server's start": lambda home: home.path.joinpath("data", "postmaster.pid").exists(),
}


@pytest.fixture
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with it."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("moment", _MOMENTS)
def test_a_first_set_up_whose_processes_are_killed_is_made_good(fresh_home: Home, moment: str) -> None:
    user = fresh_home.user()
    wait_until(lambda: _MOMENTS[moment](fresh_home), f"the set-up never came to: {moment}")
    user.kill()
    os.kill(fresh_home.keeper, signal.SIGKILL)
    fresh_home.wait_until_nothing_runs()

    with fresh_home.acquire() as server:
        assert answers(server.url)
        assert fresh_home.drafts() == []


def test_a_user_waits_for_another_keeper_when_the_first_is_killed(fresh_home: Home) -> None:
    user = fresh_home.user()
    wait_until(lambda: _MOMENTS["in initdb"](fresh_home), "no initdb")
    os.kill(fresh_home.keeper, signal.SIGKILL)
    assert answers(url_of(user))


def test_a_set_up_whose_user_is_killed_ends_by_itself(fresh_home: Home) -> None:
    user = fresh_home.user()
    wait_until(lambda: _MOMENTS["in initdb"](fresh_home), "no initdb")
    user.kill()
    fresh_home.wait_until_nothing_runs()
    assert (fresh_home.path / "data" / "PG_VERSION").exists()
    assert fresh_home.drafts() == []


def test_users_start_another_keeper_when_theirs_is_killed(home: Home) -> None:
    user = home.user()
    url = url_of(user)
    before = home.keeper
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: holder(home.folder.keeper) not in {None, before}, "there is no other keeper")
    wait_until(lambda: answers(url), "the server isn't back at its old address")
    user.kill()
    home.wait_until_nothing_runs()


def test_a_server_that_lost_its_keeper_can_be_stopped(home: Home) -> None:
    with home.acquire():
        os.kill(home.keeper, signal.SIGKILL)
        assert embedded.stop(home.path)
        # The user's watch may have been faster; then that one's server was stopped.
        home.wait_until_nothing_runs()
        assert not home.folder.state_file.exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone ends a child with its parent")
def test_a_server_without_keeper_and_users_is_gone(home: Home) -> None:
    user = home.user()
    url_of(user)
    user.kill()
    os.kill(home.keeper, signal.SIGKILL)
    home.wait_until_nothing_runs()


def test_a_server_that_is_killed_is_started_again(home: Home) -> None:
    with home.acquire() as server:
        change(server.url, "create table kept ()")
        keeper, before = home.keeper, home.postmaster
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: holder(home.folder.postmaster) not in {None, before}, "it isn't started again")
        wait_until(lambda: answers(server.url), "it isn't back at its old address")
        assert query(server.url, "select to_regclass('kept')") == "kept"
        assert home.keeper == keeper


def test_a_server_that_others_stop_stays_stopped(home: Home) -> None:
    with home.acquire():
        os.kill(home.postmaster, signal.SIGINT)
        home.wait_until_nothing_runs()
        assert embedded.look(home.path).state is None


def test_everything_killed_at_once_is_made_good_by_the_next_start(home: Home) -> None:
    user = home.user()
    url = url_of(user)
    change(url, "create table kept ()")
    family = [psutil.Process(home.postmaster), *psutil.Process(home.postmaster).children(recursive=True)]
    kill_all([psutil.Process(home.keeper), psutil.Process(user.pid), *family])
    assert (home.path / "data" / "postmaster.pid").exists()
    with home.acquire() as server:
        assert server.url == url
        assert query(server.url, "select to_regclass('kept')") == "kept"


def test_a_stranger_with_the_id_of_a_dead_server_is_left_alone(home: Home, innocent: subprocess.Popen[bytes]) -> None:
    with home.acquire() as server:
        lines = (home.path / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines(keepends=True)
    home.wait_until_nothing_runs()
    stale = "".join([f"{innocent.pid}\n", *lines[1:]])
    (home.path / "data" / "postmaster.pid").write_text(stale, encoding="utf-8")
    socket = home.path / "socket"
    socket.mkdir(mode=0o700)
    (socket / f".s.PGSQL.{lines[3].strip()}.lock").write_text(stale, encoding="utf-8")
    # Beside the files that perdure itself reads when it is to stop a server: none of them names a process.
    home.folder.write_state(State(server.url, str(home.path / "data"), "18.6"))

    assert embedded.stop(home.path)
    assert innocent.poll() is None
    with home.acquire() as again:
        assert answers(again.url)
        embedded.stop(home.path)
    assert innocent.poll() is None


def test_another_server_with_the_id_of_a_dead_one_is_left_alone(home: Home, cluster: Cluster) -> None:
    (home.path / "data" / "postmaster.pid").write_text(f"{cluster.pid}\n", encoding="utf-8")
    with home.acquire() as server:
        assert answers(server.url)
    assert answers(cluster.dsn())


def test_a_server_on_our_data_that_we_have_not_started_is_left_alone(home: Home) -> None:
    with home.acquire():
        command = psutil.Process(home.postmaster).cmdline()
        account = psutil.Process(home.postmaster).uids().real
        socket = home.path / "socket"
        embedded.stop(home.path)
    socket.mkdir(mode=0o700)
    os.chown(socket, account, -1)
    foreign = subprocess.Popen(command, cwd="/", user=account, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: "ready" in _pid_file(home), "the other server isn't ready")
        with pytest.raises(
            EmbeddedError, match=rf"a server that perdure didn't start runs on .*: process {foreign.pid}\."
        ):
            home.acquire()
        assert foreign.poll() is None
        assert not embedded.stop(home.path)
        assert foreign.poll() is None
    finally:
        foreign.send_signal(signal.SIGINT)
        foreign.wait()


def test_a_claim_ends_with_its_process(home: Home) -> None:
    path = home.outside / "claim"
    code = "import os, sys; from perdure.embedded.locks import claim; from pathlib import Path\n"
    code += "print('claimed', claim(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"claimed True\n"
        assert holder(path) == one.pid
        one.kill()
    assert holder(path) is None
    assert not signal_holder(path, signal.SIGKILL)


def _pid_file(home: Home) -> str:
    try:
        return (home.path / "data" / "postmaster.pid").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
