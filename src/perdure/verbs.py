"""The verbs of the clients, without their I/O: each is a generator of calls to run, and returns the answer.

So every verb is written once, and `client` runs it on async connections, `blocking` on sync ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from perdure.answers import CancelRequested, JobEnded, JobNotFound, NotSuspended, Proceeded
from perdure.core.states import JobState
from perdure.due import split_due
from perdure.job import Job
from perdure.options import check_priority, check_queue
from perdure.store import jobs
from perdure.store.jobs import JobRow

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from perdure.answers import CancelAnswer, ProceedAnswer
    from perdure.due import Due
    from perdure.job import JobSource
    from perdure.query import JobQuery
    from perdure.store.calls import Call
    from perdure.store.jobs import Started, StartedMany
    from perdure.store.sql import Names
    from perdure.task import Task

__all__ = ["Verbs"]

M = TypeVar("M")
X = TypeVar("X")
R = TypeVar("R")
E = TypeVar("E")
T = TypeVar("T")

_BATCH: Final = 1_000
_BATCH_BYTES: Final = 8 * 1024 * 1024


class Verbs:
    """What can be asked of jobs; knows the app's tasks and the schema's names, and runs nothing."""

    def __init__(
        self, names: Names, tasks: Mapping[str, Task[Any, Any, Any, Any]], source: JobSource, *, max_payload_bytes: int
    ) -> None:
        """Keep what calls are made of."""
        self._names = names
        self._tasks = tasks
        self._source = source
        self._max_payload_bytes = max_payload_bytes

    def job(self, row: JobRow) -> Job[Any, Any, Any, Any]:
        """Make the handle of a row."""
        return Job(row, self._tasks.get(row.task), self._source)

    def start(
        self,
        task: Task[M, X, R, E],
        metadata: M,
        execution_metadata: X | None = None,
        *,
        at: Due | None = None,
        queue: str | None = None,
        priority: int | None = None,
        in_callers_transaction: bool,
    ) -> Generator[Call[Any], Any, Job[M, X, R, E]]:
        """Store one job."""
        place = self._place(task, at, queue, priority, in_callers_transaction)
        data = self._encode_metadata(task, metadata)
        checkpoint = self._encode_checkpoint(task, execution_metadata)
        started: Started = yield jobs.start(self._names, metadata=data, execution_metadata=checkpoint, **place)
        row = _new_row(place, started.id, started, data, checkpoint)
        return Job(row, task, self._source)

    def start_many(
        self,
        task: Task[M, X, R, E],
        metadata: Iterable[M],
        execution_metadata: X | None = None,
        *,
        at: Due | None = None,
        queue: str | None = None,
        priority: int | None = None,
        in_callers_transaction: bool,
    ) -> Generator[Call[Any], Any, list[Job[M, X, R, E]]]:
        """Store many jobs, a batch a call."""
        place = self._place(task, at, queue, priority, in_callers_transaction)
        checkpoint = self._encode_checkpoint(task, execution_metadata)
        handles: list[Job[M, X, R, E]] = []
        try:
            for batch in _batches(self._encode_metadata(task, item) for item in metadata):
                started: StartedMany = yield jobs.start_many(
                    self._names, metadata=batch, execution_metadata=checkpoint, **place
                )
                for job_id, data in zip(started.ids, batch, strict=True):
                    handles.append(Job(_new_row(place, job_id, started, data, checkpoint), task, self._source))
        except BaseException as error:
            if handles and not in_callers_transaction:
                error.add_note(
                    f"start_many: {len(handles)} jobs, the ids {handles[0].id} to {handles[-1].id}, are stored already"
                )
            raise
        return handles

    def read(self, job_id: int) -> Generator[Call[Any], Any, JobRow | None]:
        """Read a job's row."""
        row: JobRow | None = yield jobs.get(self._names, job_id)
        return row

    def page(self, query: JobQuery, after: int | None) -> Generator[Call[Any], Any, list[Job[Any, Any, Any, Any]]]:
        """Read the page of a query that follows an id."""
        rows: list[JobRow] = yield jobs.page(self._names, after=after, limit=query.page_size, **query.filters())
        return [self.job(row) for row in rows]

    def proceed(
        self, job_id: int, *, at: Due | None, task: Task[Any, Any, Any, Any] | None = None
    ) -> Generator[Call[Any], Any, ProceedAnswer]:
        """Let a suspended job go on; of one task only, when that is given."""
        at_time, after = split_due(at, key="at")
        if task is not None:
            row = yield from self.read(job_id)
            if row is None or row.task != task.name:
                return JobNotFound()
        while True:
            proceeded: bool = yield jobs.proceed(self._names, job_id, at=at_time, after=after)
            row = yield from self.read(job_id)
            if row is None:
                return JobNotFound()
            if proceeded:
                return Proceeded(self.job(row))
            # Between the two calls it may have become what can proceed after all: then ask again.
            if JobState.from_code(row.state) not in {JobState.SUSPENDED, JobState.RUNNING}:
                return NotSuspended(self.job(row))

    def cancel(self, job_id: int) -> Generator[Call[Any], Any, CancelAnswer]:
        """Cancel a job, or ask its attempt to be."""
        while True:
            requested: bool = yield jobs.cancel(self._names, job_id)
            requested = requested or (yield jobs.request_cancel(self._names, job_id))
            row = yield from self.read(job_id)
            if row is None:
                return JobNotFound()
            if requested:
                return CancelRequested(self.job(row))
            # Between the calls it may have moved from waiting to running, or back: then ask again.
            if JobState.from_code(row.state).is_final:
                return JobEnded(self.job(row))

    def _place(
        self,
        task: Task[Any, Any, Any, Any],
        at: Due | None,
        queue: str | None,
        priority: int | None,
        in_callers_transaction: bool,  # noqa: FBT001 - named where it is passed on
    ) -> dict[str, Any]:
        at_time, after = split_due(at, key="at")
        options = task.options
        where = f"task {task.name!r}"
        return {
            "task": task.name,
            "queue": options.queue if queue is None else check_queue(queue, where=where),
            "priority": options.priority if priority is None else check_priority(priority, where=where),
            "at": at_time,
            "after": after,
            "notify": in_callers_transaction,
        }

    def _encode_metadata(self, task: Task[M, Any, Any, Any], metadata: M) -> bytes:
        return task.metadata.encode(metadata, what=f"metadata of {task.name}", limit=self._max_payload_bytes)

    def _encode_checkpoint(self, task: Task[Any, X, Any, Any], execution_metadata: X | None) -> bytes:
        codec = task.execution_metadata
        value = codec.default() if execution_metadata is None else execution_metadata
        return codec.encode(value, what=f"execution metadata of {task.name}", limit=self._max_payload_bytes)


def _new_row(
    place: dict[str, Any], job_id: int, started: Started | StartedMany, metadata: bytes, execution_metadata: bytes
) -> JobRow:
    return JobRow(
        id=job_id,
        state=JobState.PENDING.code,
        task=place["task"],
        queue=place["queue"],
        priority=place["priority"],
        attempt=0,
        retry_number=0,
        created_at=started.created_at,
        scheduled_at=started.scheduled_at,
        started_at=None,
        finished_at=None,
        worker_id=None,
        cancel_requested=False,
        metadata=metadata,
        execution_metadata=execution_metadata,
        result=None,
        error=None,
        last_error=None,
        progress=None,
    )


def _batches(items: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Cut into batches that are neither long nor large, whatever the payloads are."""
    for first in items:
        batch, size = [first], len(first)
        if size < _BATCH_BYTES:
            for item in items:
                batch.append(item)
                size += len(item)
                if len(batch) >= _BATCH or size >= _BATCH_BYTES:
                    break
        yield batch
