"""Start one job, or many, a batch at a time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from perdure.core.states import JobState, WokenBy
from perdure.due import split_due
from perdure.errors import MisuseError
from perdure.failpoints import reach
from perdure.job import Job
from perdure.options import PlaceOptions, check_deadline, check_priority, check_queue
from perdure.shown import shorten
from perdure.store import jobs
from perdure.store.jobs import JobRow
from perdure.verbs.basis import Basis

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
    from typing import Unpack

    from perdure.store.jobs import Started, StartedMany
    from perdure.task import Task
    from perdure.verbs.basis import Verb

__all__ = ["Batches", "Starting"]

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
        batches = self.batches(task, execution_metadata, in_callers_transaction=in_callers_transaction, **options)
        handles: list[Job[M, X, R, E]] = []
        with batches.noted("start_many"):
            for storing in batches.of(metadata):
                handles += yield from storing
        return handles

    def batches(
        self,
        task: Task[M, X, R, E],
        execution_metadata: X | None = None,
        *,
        in_callers_transaction: bool,
        **options: Unpack[PlaceOptions],
    ) -> Batches[M, X, R, E]:
        """Prepare storing jobs in batches; the options are checked at once."""
        place = _place(task, options, in_callers_transaction=in_callers_transaction)
        checkpoint = self.encode_checkpoint(task, execution_metadata)
        return Batches(self, task, checkpoint, place, is_certain=not in_callers_transaction)


class Batches(Generic[M, X, R, E]):
    """Jobs of one task that are stored in batches, for sync and async loops alike.

    Holds no more than the batch that is being collected, and what to tell of those that are stored.
    """

    def __init__(
        self, basis: Basis, task: Task[M, X, R, E], checkpoint: bytes, place: dict[str, Any], *, is_certain: bool
    ) -> None:
        """Begin with an empty batch."""
        self._basis = basis
        self._task = task
        self._checkpoint = checkpoint
        self._place = place
        self._is_certain = is_certain
        self._batch: list[bytes] = []
        self._size_bytes = 0
        self._stored = 0
        self._first_id = self._last_id = 0

    def of(self, metadata: Iterable[M], *, purpose: str = "start_many") -> Generator[Verb[list[Job[M, X, R, E]]]]:
        """Read one batch, and yield the verb that stores it, before anything more is read.

        Raises:
            MisuseError: The source can't be iterated; `purpose` is the call to be named then.
        """
        for item in _iterator(purpose, metadata):
            if self._add(item):
                yield self._store()
        if self._batch:
            yield self._store()

    async def of_any(self, metadata: Iterable[M] | AsyncIterable[M]) -> AsyncGenerator[Verb[list[Job[M, X, R, E]]]]:
        """Do as `of` does, with async iterables too; what is both, as a queryset of Django's, is read as async."""
        if not isinstance(metadata, AsyncIterable):
            for storing in self.of(metadata, purpose="start_batches"):
                yield storing
            return
        async for item in metadata:
            if self._add(item):
                yield self._store()
        if self._batch:
            yield self._store()

    @contextlib.contextmanager
    def noted(self, purpose: str) -> Generator[None]:
        """Note on an error which jobs are stored, unless that is for the caller's transaction to say."""
        try:
            yield
        except BaseException as error:
            if self._stored and self._is_certain:
                error.add_note(
                    f"{purpose}: {self._stored} jobs, the ids {self._first_id} to {self._last_id}, are stored already"
                )
            raise

    def _add(self, metadata: M) -> bool:
        """Take one more; return whether the batch is to be stored, which is neither long nor large."""
        data = self._basis.encode_metadata(self._task, metadata)
        self._batch.append(data)
        self._size_bytes += len(data)
        return len(self._batch) >= _BATCH or self._size_bytes >= _BATCH_BYTES

    def _store(self) -> Verb[list[Job[M, X, R, E]]]:
        batch, self._batch, self._size_bytes = self._batch, [], 0
        reach("batch.unsent")
        started: StartedMany = yield jobs.start_many(
            self._basis.names, metadata=batch, execution_metadata=self._checkpoint, **self._place
        )
        reach("batch.committed")
        if not self._stored:
            self._first_id = started.ids[0]
        self._last_id = started.ids[-1]
        self._stored += len(batch)
        rows = (
            _new_row(self._place, job_id, started, data, self._checkpoint)
            for job_id, data in zip(started.ids, batch, strict=True)
        )
        return [Job(row, self._task, self._basis.source, is_certain=self._is_certain) for row in rows]


def _iterator(purpose: str, metadata: Iterable[M]) -> Iterator[M]:
    try:
        return iter(metadata)
    except TypeError as error:
        instead = "give a list of the jobs' metadata, or another iterable"
        if isinstance(metadata, AsyncIterable):
            instead = (
                "an async iterable is taken by the task's own start_batches: async for jobs in task.start_batches(…)"
            )
        message = f"{purpose}: {shorten(metadata)} can't be iterated here; {instead}"
        raise MisuseError(message) from error


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
