"""Trying a mutant: in a copy of the source tree, by pytest in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.mutants.mutant import Mutant

__all__ = ["ROOT", "Answer", "Fate", "Trial", "ask", "copy", "try_mutant"]

ROOT = Path(__file__).parents[2]
_COPIED = ("src", "tests", "pyproject.toml")
_NOTHING_BEGAN = {2, 3, 4}  # interrupted by errors of collecting, an internal error, an error of usage or of a conftest
_TEST_SECONDS = 45
_SUMMARY = re.compile(r"^(FAILED|ERROR|SKIPPED) (.*)$", re.MULTILINE)
_AT_ONCE = re.compile(r"^(tests/.*) FAILED *(?:\[ *\d+%\])?$", re.MULTILINE)


class Fate(Enum):
    """What has become of a mutant."""

    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    ROTTEN = "rotten"
    UNCLEAR = "unclear"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Answer:
    """What pytest has said.

    Attributes:
        code: Its exit code; None when it didn't end in time.
        failed: The tests that failed.
        skipped: Whether tests were skipped.
        text: All of it.
    """

    code: int | None
    failed: tuple[str, ...]
    skipped: bool
    text: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One mutant, tried.

    Attributes:
        mutant: Which.
        fate: What has become of it.
        seconds: How long that took.
        told: Which test caught it; or what else there is to say.
    """

    mutant: Mutant
    fate: Fate
    seconds: float
    told: str


def try_mutant(mutant: Mutant, base: Path, servers: str) -> Trial:
    """Copy, mutate and run the tests.

    Args:
        mutant: Which.
        base: A copy of the source tree in which tests have run already, so that all is compiled.
        servers: The folder of the run whose servers may be used.
    """
    began_at_seconds = time.monotonic()
    if reasons := mutant.rotten(base):
        return Trial(mutant, Fate.ROTTEN, 0.0, "; ".join(reasons))
    with copy(base) as root:
        for edit in mutant.edits:
            edit.make(root)
        shared = None if mutant.changes_schema else servers
        answer = ask(root, mutant.tests, mutant.timeout_seconds, shared, "-x")
    fate, told = _judge(mutant, answer)
    return Trial(mutant, fate, time.monotonic() - began_at_seconds, told)


@contextlib.contextmanager
def copy(base: Path) -> Iterator[Path]:
    """Copy what tests need of a source tree into a folder of its own, for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="perdure-mutant-") as folder:
        root = Path(folder)
        for name in _COPIED:
            source = base / name
            if source.is_dir():
                shutil.copytree(source, root / name)  # with times, so that what is compiled stays good
            else:
                shutil.copy2(source, root / name)
        yield root


def ask(root: Path, tests: Sequence[str], timeout_seconds: float, servers: str | None, *options: str) -> Answer:
    """Run tests of a copy, so that it is the copy's perdure which they and their processes import."""
    # By its path the copy comes before what is installed, which is this source tree.
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "250", "PERDURE_TEST_TIER": "push"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is compiled takes longer than the tests
    environment.pop("PERDURE_TEST_RUN", None)
    if servers is not None:
        environment["PERDURE_TEST_RUN"] = servers
    command = [sys.executable, "-m", "pytest", "-v", "--no-header", "-p", "no:cacheprovider"]
    command += ["-o", "faulthandler_timeout=0", "--timeout", str(_TEST_SECONDS), *options, *tests]
    process = subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    code: int | None
    try:
        text, _ = process.communicate(timeout=timeout_seconds)
        code = process.returncode
    except BaseException as error:
        # Its group: the processes that its tests have started would hold the pipe.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        text, _ = process.communicate()
        code = None
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
    summary = _SUMMARY.findall(text)
    failed = tuple(line.partition(" - ")[0] for kind, line in summary if kind == "FAILED")
    if not failed:  # it may have failed, and then hung over leaving what it was in
        failed = tuple(_AT_ONCE.findall(text))
    return Answer(code, failed, any(kind == "SKIPPED" for kind, _ in summary), text)


def _judge(mutant: Mutant, answer: Answer) -> tuple[Fate, str]:
    """A test must have failed: that none could begin, or that a fixture's server is away, shows nothing."""
    if mutant.breaks_import:
        caught = answer.code in _NOTHING_BEGAN and mutant.name in answer.text
        return (Fate.CAUGHT, "nothing can be imported") if caught else (Fate.SURVIVED, answer.text[-2000:])
    if answer.failed:
        return Fate.CAUGHT, answer.failed[0]
    if answer.code == 0:
        return (Fate.SKIPPED, "its tests are skipped here") if answer.skipped else (Fate.SURVIVED, "no test failed")
    if answer.code is None:
        return Fate.UNCLEAR, f"not within {mutant.timeout_seconds:g} s: {answer.text[-2000:]}"
    return Fate.UNCLEAR, answer.text[-2000:]
