"""Warnings that a million jobs may give cause for, said once a minute."""

from __future__ import annotations

import logging
import time

__all__ = ["Seldom"]

_log = logging.getLogger("perdure.worker")
_EVERY_SECONDS = 60.0
_MOST = 1_000  # names of tasks come from the database: there may be any number


class Seldom:
    """Says what is the same about many jobs once a minute, and how often it was so since; the rest at DEBUG."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._said: dict[str, tuple[float, int]] = {}

    def warn(self, about: str, message: str, *arguments: object) -> None:
        """Warn, unless that was done within the last minute.

        Args:
            about: What makes one warning the same as another: a task's name.
            message: With `%` for the arguments, as `logging` has it.
            arguments: Of the message.
        """
        self.log(logging.WARNING, about, message, *arguments)

    def log(self, level: int, about: str, message: str, *arguments: object) -> None:
        """Say it at this level, unless that was done within the last minute; the rest is as for `warn`."""
        now_seconds = time.monotonic()
        said_at_seconds, unsaid = self._said.get(about, (float("-inf"), 0))
        if now_seconds - said_at_seconds < _EVERY_SECONDS:
            self._said[about] = said_at_seconds, unsaid + 1
            _log.debug(message, *arguments)
            return
        self._remember(about, now_seconds)
        if unsaid:
            message, arguments = f"{message} (and %d more of %s since this was last said)", (*arguments, unsaid, about)
        _log.log(level, message, *arguments)

    def _remember(self, about: str, now_seconds: float) -> None:
        self._said.pop(about, None)
        if len(self._said) >= _MOST:
            del self._said[next(iter(self._said))]  # the one that was said longest ago
        self._said[about] = now_seconds, 0
