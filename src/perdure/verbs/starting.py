"""Start one job, or many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from perdure.core.states import JobState, WokenBy
from perdure.due import split_due
from perdure.job import Job
from perdure.options import PlaceOptions, check_deadline, check_priority, check_queue
from perdure.store import jobs
from perdure.store.jobs import JobRow
from perdure.verbs.basis import Basis

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Unpack

    from perdure.store.jobs import Started, StartedMany
    from perdure.task import Task
    from perdure.verbs.basis import Verb

__all__ = ["Starting"]

M = TypeVar("M")
X = TypeVar("X")
R = TypeVar("R")
E = TypeVar("E")

_BATCH: Final = 1_000
_BATCH_BYTES: Final = 8 * 1024 * 1024


class Starting(Basis):
    """How jobs come to be."""

    def start(
        self,
        task: Task[M, X, R, E],
        metadata: M,
        execution_metadata: X | None = None,
        *,
        in_callers_transaction: bool,
        **options: Unpack[PlaceOptions],
    ) -> Verb[Job[M, X, R, E]]:
        """Store one job."""
        place = _place(task, options, in_callers_transaction=in_callers_transaction)
        data = self.encode_metadata(task, metadata)
        checkpoint = self.encode_checkpoint(task, execution_metadata)
        started: Started = yield jobs.start(self.names, metadata=data, execution_metadata=checkpoint, **place)
        row = _new_row(place, started.id, started, data, checkpoint)
        return Job(row, task, self.source, is_certain=not in_callers_transaction)

    def start_many(
        self,
        task: Task[M, X, R, E],
        metadata: Iterable[M],
        execution_metadata: X | None = None,
        *,
        in_callers_transaction: bool,
        **options: Unpack[PlaceOptions],
    ) -> Verb[list[Job[M, X, R, E]]]:
        """Store many jobs, a batch a call."""
        place = _place(task, options, in_callers_transaction=in_callers_transaction)
        checkpoint = self.encode_checkpoint(task, execution_metadata)
        handles: list[Job[M, X, R, E]] = []
        try:
            for batch in _batches(self.encode_metadata(task, item) for item in metadata):
                started: StartedMany = yield jobs.start_many(
                    self.names, metadata=batch, execution_metadata=checkpoint, **place
                )
                for job_id, data in zip(started.ids, batch, strict=True):
                    row = _new_row(place, job_id, started, data, checkpoint)
                    handles.append(Job(row, task, self.source, is_certain=not in_callers_transaction))
        except BaseException as error:
            if handles and not in_callers_transaction:
                error.add_note(
                    f"start_many: {len(handles)} jobs, the ids {handles[0].id} to {handles[-1].id}, are stored already"
                )
            raise
        return handles


def _place(task: Task[Any, Any, Any, Any], given: PlaceOptions, *, in_callers_transaction: bool) -> dict[str, Any]:
    known = PlaceOptions.__optional_keys__
    if unknown := given.keys() - known:
        message = f"start: there is no option {min(unknown)!r}; the options are {', '.join(sorted(known))}, connection"
        raise TypeError(message)
    at_time, after = split_due(given.get("at"), key="at")
    queue, priority, deadline = given.get("queue"), given.get("priority"), given.get("deadline")
    options = task.options
    where = f"task {task.name!r}"
    return {
        "task": task.name,
        "queue": options.queue if queue is None else check_queue(queue, where=where),
        "priority": options.priority if priority is None else check_priority(priority, where=where),
        "at": at_time,
        "after": after,
        "deadline": options.deadline if deadline is None else check_deadline(deadline, where=where),
        "version": options.version,
        "notify": in_callers_transaction,
    }


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
        woken_by=WokenBy.START.code,
        deadline_at=started.deadline_at,
        version=place["version"],
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
