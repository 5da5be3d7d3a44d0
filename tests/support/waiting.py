"""Waiting for what other processes do, where these can't tell us: with a deadline, and a complaint when it passes."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["kill_all", "still_alive", "wait_until"]

_DEADLINE_SECONDS = 30.0
_POLL_SECONDS = 0.01


def wait_until(condition: Callable[[], bool], complaint: str, *, within_seconds: float = _DEADLINE_SECONDS) -> None:
    """Poll until the condition holds.

    Raises:
        TimeoutError: With the complaint, after the deadline.
    """
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            message = f"{complaint} (waited {within_seconds} s)"
            raise TimeoutError(message)
        time.sleep(_POLL_SECONDS)


def still_alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return those that run. A zombie doesn't: in a container without an init nobody ever collects an orphan."""
    alive: list[psutil.Process] = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


def kill_all(processes: list[psutil.Process]) -> None:
    """SIGKILL all, at once, and wait until they are gone: none sees another's end, however busy the machine is."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_until(lambda: not still_alive(processes), f"outlived SIGKILL: {processes}")
