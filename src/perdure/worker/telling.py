"""What a worker's log says of its jobs: of each what is its own, once a minute what may be the same of thousands."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import psycopg

from perdure.errors import DatabaseUnavailable
from perdure.worker import endings
from perdure.worker.seldom import Seldom

if TYPE_CHECKING:
    from perdure.attempt import StopReason
    from perdure.store.claims import Claimed

__all__ = ["Telling"]

_log = logging.getLogger("perdure.worker")


class Telling:
    """The lines about jobs."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._seldom = Seldom()

    def unread(self, job: Claimed, reason: str | BaseException) -> None:
        """A job can't be read here, so it waits; why, may quote its payloads where that is an error."""
        line = reason
        if isinstance(reason, BaseException):
            line = f"{type(reason).__name__}; its last_error says more"
            _log.debug("job %d: %s", job.id, reason)
        task, line = (endings.one_line(text).decode() for text in (job.task, str(line)))
        self._seldom.warn(job.task, "job %d (%s) can't be read here: %s", job.id, task, line)

    def raised(self, job: Claimed, error: BaseException) -> None:
        """An attempt has raised; with what words, may quote its payloads."""
        described = endings.describe(error)
        _log.debug("job %d: %s", job.id, described)
        line = f"{described.type}; its last_error says more"
        message = "job %d (%s), attempt %d raised: %s", job.id, job.task, job.attempt, line
        if isinstance(error, DatabaseUnavailable | psycopg.OperationalError):  # all jobs in hand may meet it at once
            self._seldom.log(logging.INFO, f"{job.task}: {type(error).__name__}", *message)
        else:
            _log.info(*message)

    def left_behind(self, job: Claimed, reason: StopReason) -> None:
        """A handler goes on though its attempt was ended."""
        self._seldom.warn(
            f"{job.task}: left behind",
            "job %d (%s), attempt %d didn't end within the grace (%s): it is left behind, nothing that it still does "
            "is written",
            job.id,
            job.task,
            job.attempt,
            reason.value,
        )
