"""Several processes share one server: started by the first, stopped after the last, however these end."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from perdure import embedded
from tests.embedded.homes import NO_GRACE, Home, answers, change, query, url_of
from tests.support.waiting import still_alive, wait_until

if TYPE_CHECKING:
    from pathlib import Path

_AN_HOUR = 3600.0


def test_the_first_start_makes_the_database_and_says_so_once(fresh_home: Home) -> None:
    first = fresh_home.user()
    url = url_of(first)
    second = fresh_home.user()
    assert url_of(second) == url
    assert query(url, "select current_user, current_database()") == ("perdure", "perdure")

    said = [line for line in first.output.splitlines() if "embedded PostgreSQL" in line]
    assert len(said) == 1
    assert f"an embedded PostgreSQL 18.6 runs in {fresh_home.path}" in said[0]
    assert 'App("postgresql://' in said[0]
    assert "PERDURE_DSN" in said[0]
    assert "embedded" not in second.output


def test_nothing_of_it_is_open_to_others(home: Home) -> None:
    with home.acquire() as server:
        assert query(server.url, "select current_setting('listen_addresses')") == ""
        assert query(server.url, "select count(*) from pg_hba_file_rules where type <> 'local'") == 0
        mode = stat.S_IMODE
        assert mode((home.path / "data").stat().st_mode) == 0o700
        assert mode((home.path / "socket").stat().st_mode) == 0o700
        assert mode((home.path / "locks").stat().st_mode) == 0o700
        assert not mode(home.path.stat().st_mode) & 0o066
        assert (home.path / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_what_it_has_acknowledged_is_durable(home: Home) -> None:
    with home.acquire() as server:
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert query(server.url, f"select current_setting('{setting}')") == "on"
        assert query(server.url, "select current_setting('max_connections')") == "100"
        assert query(server.url, "select current_setting('server_encoding')") == "UTF8"


def test_ten_simultaneous_first_starts_get_the_same_server(fresh_home: Home) -> None:
    users = [fresh_home.user() for _number in range(10)]
    urls = {url_of(user) for user in users}
    assert len(urls) == 1
    assert sum("runs in" in user.output for user in users) == 1
    assert answers(urls.pop())
    for user in users:
        user.terminate()
    assert [user.wait() for user in users] == [0] * 10
    fresh_home.wait_until_nothing_runs()
    assert "another keeper" not in fresh_home.folder.log.read_text(encoding="utf-8")  # nobody has tried a second one


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_the_server_stops_after_its_only_user(home: Home, end: str) -> None:
    user = home.user()
    url = url_of(user)
    getattr(user, end)()
    user.wait()
    home.wait_until_nothing_runs()
    assert not answers(url)
    assert not home.folder.state_file.exists()
    assert not (home.path / "data" / "postmaster.pid").exists()  # it was told to stop, and not killed


def test_the_server_stays_for_the_users_that_are_left(home: Home) -> None:
    first, second = home.user(), home.user()
    url = url_of(first)
    url_of(second)
    keeper = home.keeper
    first.kill()
    home.wait_for_looks()
    assert home.keeper == keeper
    assert answers(url)


def test_the_server_stays_for_a_while_after_its_last_user(home: Home) -> None:
    home.acquire(grace_seconds=_AN_HOUR).close()
    home.wait_for_looks()
    postmaster = home.postmaster
    with home.acquire():
        assert home.postmaster == postmaster


def test_the_server_stays_while_somebody_is_connected_who_is_no_user(home: Home) -> None:
    server = home.acquire(grace_seconds=NO_GRACE)
    with psycopg.connect(server.url) as connection:
        server.close()
        home.wait_for_looks(12)
        connection.execute("select 1")
    home.wait_until_nothing_runs()


def test_a_user_that_comes_while_the_server_stops_gets_a_new_one(home: Home) -> None:
    for _round in range(5):
        home.acquire(grace_seconds=NO_GRACE).close()
        with home.acquire() as server:
            assert answers(server.url)


def test_closing_leaves_no_thread_and_may_be_repeated(home: Home) -> None:
    before = threading.active_count()
    server = home.acquire()
    server.close()
    server.close()
    assert threading.active_count() == before


def test_a_forked_child_of_a_user_does_not_hold_the_server(home: Home) -> None:
    code = """
import os, signal
from pathlib import Path
from perdure.embedded import acquire
server = acquire(Path(os.environ["FOLDER"]), grace_seconds=0.0)
if os.fork() == 0:
    signal.pause()
server.close()
print("closed", flush=True)
signal.pause()
"""
    user = home.processes.python("-W", "ignore", "-c", code, env={"FOLDER": str(home.path)})
    user.wait_for_line("^closed$")
    wait_until(lambda: embedded.look(home.path).state is None, "the child keeps the server up")


def test_a_forked_child_that_closes_leaves_the_server_to_its_parent(home: Home) -> None:
    code = """
import os, signal
from pathlib import Path
from perdure.embedded import acquire
server = acquire(Path(os.environ["FOLDER"]), grace_seconds=3600.0)
if os.fork() == 0:
    server.close()
    os._exit(0)
os.wait()
print("closed by the child", flush=True)
signal.pause()
"""
    user = home.processes.python("-W", "ignore", "-c", code, env={"FOLDER": str(home.path)})
    user.wait_for_line("^closed by the child$")
    home.wait_for_looks()
    assert embedded.look(home.path).is_in_use


def test_a_folder_that_is_deleted_under_its_server_can_be_made_anew(fresh_home: Home) -> None:
    old = fresh_home.acquire()
    change(old.url, "create table kept ()")
    before = psutil.Process(fresh_home.keeper), psutil.Process(fresh_home.postmaster)
    shutil.rmtree(fresh_home.path)
    with fresh_home.acquire() as server:
        assert query(server.url, "select to_regclass('kept')") is None
        old.close()
        psutil.wait_procs(before, timeout=30)
        assert still_alive(before) == []
        assert answers(server.url)


def test_two_folders_have_two_servers(home: Home, outside: Path) -> None:
    other = Home(outside / "other", home.processes)
    other.outside.mkdir()
    other.outside.chmod(0o755)
    # A copy, as of a whole project: even the data's own identifier is the same.
    subprocess.run(["/bin/cp", "-a", home.path, other.path], check=True)
    with home.acquire() as first, other.acquire() as second:
        assert first.url != second.url
        change(first.url, "create table here ()")
        assert query(second.url, "select to_regclass('here')") is None
        assert psutil.pid_exists(home.postmaster)
        assert home.postmaster != other.postmaster
    other.wait_until_nothing_runs()


def test_its_user_may_work_anywhere(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home.outside)
    with embedded.acquire(grace_seconds=NO_GRACE, announce=lambda _text: None) as server:
        assert server.url == embedded.look(home.path).state.url  # type: ignore[union-attr]
        assert os.path.commonpath([home.path, embedded.look().data]) == str(home.path)
