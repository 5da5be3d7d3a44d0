"""Look through the live jobs for what the code at hand can't read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from perdure.core.states import JobState
from perdure.resuming import problems_of_event, problems_of_job
from perdure.store import payloads
from perdure.verbs.basis import Basis, Together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.resuming import ResumeProblem
    from perdure.store.payloads import LivePayloads, UnreadPayload
    from perdure.verbs.basis import Verb

__all__ = ["Checking", "Place"]

_LIMIT: Final = 1_000
_MAX_BYTES: Final = 4 * 1024 * 1024


class Place(NamedTuple):
    """Where a check is.

    Attributes:
        job: The last job that was looked at.
        waiting: The jobs whose events are still to be looked at.
        event: The last event of the first of them that was.
        jobs: How many jobs have been looked at.
        events: How many events.
    """

    job: int = -(2**63)
    waiting: Sequence[LivePayloads] = ()
    event: int = -(2**63)
    jobs: int = 0
    events: int = 0


class Checking(Basis):
    """What finds live jobs that wouldn't resume. Each page is a transaction of its own, which can't write."""

    def count_live(self) -> Verb[int]:
        """Count the live jobs."""
        count: int = yield Together(self._count_live(), read_only=True)
        return count

    def check_page(self, place: Place) -> Verb[tuple[list[ResumeProblem], Place | None]]:
        """Look at the jobs, or their events, that follow a place; and say where that led: None at the end."""
        found: tuple[list[ResumeProblem], Place | None]
        found = yield Together(self._check_events(place) if place.waiting else self._check_jobs(place), read_only=True)
        return found

    def _count_live(self) -> Verb[int]:
        count: int = yield payloads.count_live(self.names)
        return count

    def _check_jobs(self, place: Place) -> Verb[tuple[list[ResumeProblem], Place | None]]:
        page: list[LivePayloads] = yield payloads.live_payloads(
            self.names, after=place.job, limit=_LIMIT, max_bytes=_MAX_BYTES
        )
        if not page:
            return [], None
        problems = [problem for job in page for problem in problems_of_job(self.tasks, job)]
        # Without their payloads: they wait while the events are looked at.
        waiting = [job._replace(metadata=b"", execution_metadata=b"") for job in page]
        return problems, Place(page[-1].id, waiting, jobs=place.jobs + len(page), events=place.events)

    def _check_events(self, place: Place) -> Verb[tuple[list[ResumeProblem], Place | None]]:
        jobs = {job.id: job for job in place.waiting}
        page: list[UnreadPayload] = yield payloads.unread_payloads(
            self.names, list(jobs), after=place.event, limit=_LIMIT, max_bytes=_MAX_BYTES
        )
        if not page:
            return [], place._replace(waiting=())
        problems: list[ResumeProblem] = []
        for event in page:
            job = jobs[event.job_id]
            problems += problems_of_event(self.tasks, job.task, JobState.from_code(job.state), event)
        last = page[-1]
        waiting = [job for job in place.waiting if job.id >= last.job_id]
        return problems, place._replace(waiting=waiting, event=last.id, events=place.events + len(page))
