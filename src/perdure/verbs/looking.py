"""Read jobs and their histories, and find the one that a verb is to be applied to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from perdure.errors import JobNotFoundError, MisuseError
from perdure.history import AttemptRecord
from perdure.query import JobQuery
from perdure.shown import shorten
from perdure.store import jobs
from perdure.verbs.basis import Basis

if TYPE_CHECKING:
    from perdure.job import Job
    from perdure.store.jobs import JobRow
    from perdure.task import Task
    from perdure.verbs.basis import Verb

__all__ = ["MOST_FOUND", "Looking", "check_id", "check_query", "check_which"]

MOST_FOUND: Final = 100
"""How many jobs `MultipleJobsFound` holds at most."""

_LARGEST_ID: Final = 2**63 - 1


class Looking(Basis):
    """What changes nothing."""

    def read(self, job_id: int) -> Verb[JobRow | None]:
        """Read a job's row.

        Raises:
            MisuseError: That is no job's id.
        """
        row: JobRow | None = yield jobs.get(self.names, check_id(job_id))
        return row

    def page(self, query: JobQuery, after: int | None) -> Verb[list[Job[Any, Any, Any, Any]]]:
        """Read the page of a query that follows an id."""
        rows: list[JobRow] = yield jobs.page(
            self.names, after=after, limit=query.page_size, descending=query.order == "descending", **query.filters()
        )
        return [self.job(row) for row in rows]

    def history(self, job_id: int) -> Verb[list[AttemptRecord[Any]]]:
        """Read the attempts of a job.

        Raises:
            JobNotFoundError: There is no such job.
        """
        row = yield from self.read(job_id)
        if row is None:
            message = f"there is no job {job_id}"
            raise JobNotFoundError(message)
        attempts: list[jobs.AttemptRow] = yield jobs.history(self.names, job_id)
        task = self.tasks.get(row.task)
        codec = None if task is None else task.error
        return [AttemptRecord(job_id, attempt, codec) for attempt in attempts]

    def unread_events(self, job_id: int) -> Verb[int]:
        """Count the events that a job hasn't consumed."""
        unread: int = yield jobs.unread_events(self.names, check_id(job_id))
        return unread

    def find(self, query: JobQuery, task: Task[Any, Any, Any, Any] | None) -> Verb[list[JobRow]]:
        """Find the jobs that a verb may be meant for, one more than are shown; of one task only, when that is given.

        A query that names no states means jobs that haven't ended.
        """
        filters = query.filters()
        if task is not None:
            names = filters.get("tasks")
            filters["tasks"] = [task.name] if names is None or task.name in names else []
        rows: list[JobRow]
        if query.states is None or not any(state.is_final for state in query.states):
            rows = yield jobs.find(self.names, limit=MOST_FOUND + 1, **filters)
        else:
            rows = yield jobs.page(self.names, after=None, limit=MOST_FOUND + 1, **filters)
        return rows


def check_id(job_id: object) -> int:
    """Return a job's id.

    Raises:
        MisuseError: It is none.
    """
    if isinstance(job_id, int) and not isinstance(job_id, bool) and abs(job_id) <= _LARGEST_ID:
        return job_id
    message = f"{shorten(job_id)} is no job's id, which is a whole number up to {_LARGEST_ID}"
    raise MisuseError(message)


def check_query(verb: str, query: object) -> JobQuery:
    """Return the query that a verb is given; one for all jobs, if it is none.

    Raises:
        MisuseError: It is something else.
    """
    if query is None:
        return JobQuery()
    if isinstance(query, JobQuery):
        return query
    message = f"{verb}: {shorten(query)} is no JobQuery; give JobQuery(names=…, metadata=…), or nothing for all jobs"
    raise MisuseError(message)


def check_which(verb: str, which: object) -> int | JobQuery:
    """Return the id or the query that a verb is given.

    Raises:
        MisuseError: It is neither.
    """
    if isinstance(which, JobQuery):
        return which
    if isinstance(which, int) and not isinstance(which, bool):
        return check_id(which)
    message = f"{verb}: {shorten(which)} is neither a job's id nor a JobQuery"
    raise MisuseError(message)
