"""`perdure db start|stop|url|status`."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from perdure import embedded
from tests.embedded.homes import Home, answers, url_of
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    Ended = subprocess.CompletedProcess[str]


@pytest.fixture
def db(home: Home) -> Callable[..., Ended]:
    """Call `perdure db …` in the folder around `.perdure`."""

    def call(*arguments: str) -> Ended:
        command = [sys.executable, "-c", "from perdure.cli import main; main()", "db", *arguments]
        return subprocess.run(command, cwd=home.outside, check=False, capture_output=True, text=True)

    return call


def test_a_started_server_runs_until_it_is_stopped(home: Home, db: Callable[..., Ended]) -> None:
    started = db("start")
    assert started.returncode == 0
    assert answers(started.stdout.strip())
    assert "no database is configured" not in started.stderr
    assert db("url").stdout == started.stdout

    told = json.loads(db("status", "--output", "json").stdout)
    assert told["state"] == "running"
    assert told["url"] == started.stdout.strip()
    assert told["kept"] is True
    assert told["used"] is False
    assert told["data"] == str(home.path / "data")

    with home.acquire():
        pass
    home.wait_for_looks()
    assert answers(started.stdout.strip())

    stopped = db("stop")
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "", "")
    assert home.everything() == []


def test_a_server_that_is_used_stops_when_it_is_told_to(home: Home, db: Callable[..., Ended]) -> None:
    user = home.user()
    url = url_of(user)
    assert "by running processes" in db("status").stdout
    stopped = db("stop")
    assert stopped.returncode == 0
    assert "it was in use" in stopped.stderr
    assert home.everything() == []
    assert user.is_running

    # Its users don't start it again; somebody who needs it does, at the same address.
    with home.acquire() as server:
        assert server.url == url
    user.terminate()
    assert user.wait() == 0
    wait_until(lambda: embedded.look(home.path).state is None, "the server stays")


@pytest.mark.parametrize("there", ["a folder", ""])
def test_nothing_runs(home: Home, db: Callable[..., Ended], there: str) -> None:
    if not there:
        home.path.rename(home.outside / "aside")
    status = db("status")
    assert status.returncode == 1
    assert "stopped" in status.stdout
    stopped = db("stop")
    assert stopped.returncode == 0
    assert stopped.stderr == f"no embedded PostgreSQL runs in {home.path}\n"
    assert there or not home.path.exists()


def test_the_url_of_a_server_that_has_stopped_starts_it(home: Home, db: Callable[..., Ended]) -> None:
    asked = db("url")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert answers(asked.stdout.strip())


def test_the_url_of_a_server_that_was_never_there_makes_none(home: Home, db: Callable[..., Ended]) -> None:
    home.path.rename(home.outside / "aside")
    asked = db("url")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert asked.stderr == f"Error: there is no embedded PostgreSQL in {home.path} yet: `perdure db start` makes one\n"
    assert not home.path.exists()


def test_the_server_of_another_folder(home: Home, db: Callable[..., Ended]) -> None:
    aside = home.outside / "aside"
    home.path.rename(aside)
    assert answers(db("start", "--folder", "aside").stdout.strip())
    assert db("status").returncode == 1
    assert db("status", "--folder", str(aside)).returncode == 0
    assert db("stop", "--folder", "aside").returncode == 0
    assert embedded.look(aside).state is None


def test_what_can_not_be_is_said_in_a_line(home: Home, db: Callable[..., Ended]) -> None:
    (home.path / "data" / "PG_VERSION").write_text("17\n", encoding="ascii")
    started = db("start")
    assert started.returncode == 1
    assert started.stderr.startswith("Error: ")
    assert "was made by PostgreSQL 17" in started.stderr
    assert "Traceback" not in started.stderr
