"""Waiting for a job's end where there is no event loop: by looking again and again.

A thread can't wait for a notification and for its time-out at once without a connection of its own; so nobody tells it.
"""

from __future__ import annotations

import logging
import math
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

from perdure.store.refusals import for_log
from perdure.waiting import LAST_LOOK_SECONDS, NO_ANSWER, raise_unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.job import Job
    from perdure.store.jobs import JobRow

__all__ = ["look_until_ended"]

_log = logging.getLogger("perdure")
_FIRST_WAIT_SECONDS: Final = 0.02
_LONGEST_WAIT_SECONDS: Final = 0.5
"""How long an end may go unnoticed, whatever `scheduling.polling_delay` is: that may be a day, where notifications tell
of what is due, and here they tell nothing. Less than the second for which a connection is lent untried."""


def look_until_ended(
    job: Job[Any, Any, Any, Any],
    read: Callable[[int, float], JobRow | None],
    timeout_seconds: float | None,
    *,
    polling_seconds: float,
) -> None:
    """Wait until a job has ended, or the time is over, and show it as it is then.

    Args:
        job: The job.
        read: Reads its row, within so many seconds.
        timeout_seconds: How long to wait at most, but for a last look of `LAST_LOOK_SECONDS`; None waits for ever.
        polling_seconds: How long to wait at most between looks.

    Raises:
        JobNotFoundError: It has been deleted, or the transaction that it was started in wasn't committed in time.
        TimeoutError: The time is over, and the database doesn't tell how the job stands.
        DatabaseUnavailable: The first look has failed; later ones are made again.
    """
    timeout = math.inf if timeout_seconds is None else timeout_seconds
    ends_at_seconds = monotonic() + timeout
    wait_seconds, is_first = _FIRST_WAIT_SECONDS, True
    while True:
        try:
            if _has_ended(job, read(job.id, max(LAST_LOOK_SECONDS, ends_at_seconds - monotonic()))):
                return
        except NO_ANSWER as error:
            if monotonic() >= ends_at_seconds:
                raise job.unanswered(timeout_seconds) from error
            if is_first:
                raise_unavailable(error)
            _log.warning("waiting for job %d: %s", job.id, for_log(error))
        else:
            if monotonic() >= ends_at_seconds:
                break
        is_first = False
        sleep(max(0.0, min(wait_seconds, ends_at_seconds - monotonic())))
        wait_seconds = min(2 * wait_seconds, polling_seconds, _LONGEST_WAIT_SECONDS)
    if not job.is_certain:
        job.show(None)


def _has_ended(job: Job[Any, Any, Any, Any], row: JobRow | None) -> bool:
    if row is None and not job.is_certain:
        return False  # the transaction that it was started in may be open
    job.show(row)
    return job.state.is_final
