"""Folders for embedded servers: fresh ones, and ones in which the first set-up was done before."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from perdure import embedded
from tests.embedded.homes import Home
from tests.support.account import public_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cluster import TestRun
    from tests.support.processes import Processes


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user of the machine can reach, with a short path."""
    for variable in [key for key in os.environ if key.startswith("PERDURE_")]:
        monkeypatch.delenv(variable)
    folder = public_folder("perdure-e-")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def fresh_home(outside: Path, processes: Processes) -> Iterator[Home]:
    """A folder without `.perdure`. After the test everything of it is stopped, and must be gone."""
    home = Home(outside, processes)
    yield home
    _end(home)


@pytest.fixture
def home(fresh_home: Home, test_run: TestRun) -> Home:
    """A folder in which the first set-up was done."""
    with test_run.lock("embedded") as note:
        pristine = note.with_suffix(".perdure")
        if not note.exists():
            fresh_home.acquire().close()
            _end(fresh_home)
            subprocess.run(["/bin/cp", "-a", fresh_home.path, pristine], check=True)
            note.touch()
            return fresh_home
    subprocess.run(["/bin/cp", "-a", pristine, fresh_home.path], check=True)
    return fresh_home


def _end(home: Home) -> None:
    if home.path.exists():
        embedded.stop(home.path)
    home.wait_until_nothing_runs()
    assert home.drafts() == []
