"""A job as its starter sees it: a handle that shows what was last read, and can read anew or wait for the end.

Payloads are decoded when they are looked at, so that one that can't be decoded spoils nothing else: neither the other
attributes nor the page of jobs that it is on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime  # msgspec reads JobProgress's annotations
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec

from perdure.core.states import JobState
from perdure.durations import wait_seconds
from perdure.errors import JobCancelled, JobFailed, JobNotFoundError, PayloadUndecodable
from perdure.history import decode_error, decode_woken_by
from perdure.upgrading import read_payload, read_plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self
    from uuid import UUID

    from typing_extensions import TypeVar as TypeVarWithDefault

    from perdure.core.failure import Raised
    from perdure.core.states import WokenBy
    from perdure.durations import Duration
    from perdure.history import AttemptRecord
    from perdure.store.jobs import JobRow
    from perdure.task import Task
    from perdure.upgrading import PayloadKind

__all__ = ["Job", "JobProgress", "JobSource"]

_LONGEST_SHOWN = 500

if TYPE_CHECKING:
    # `Job` alone is a job of whatever task. Checkers know typing_extensions of themselves; it needn't be installed.
    M = TypeVarWithDefault("M", default=Any)
    X = TypeVarWithDefault("X", default=Any)
    R = TypeVarWithDefault("R", default=Any)
    E = TypeVarWithDefault("E", default=Any)
else:
    M, X, R, E = TypeVar("M"), TypeVar("X"), TypeVar("R"), TypeVar("E")


class JobSource(Protocol):
    """Where a handle reads its job."""

    async def read(self, job_id: int) -> JobRow | None:
        """Read the job as it stands, or None when there is none."""
        ...

    async def read_ended(self, job_id: int, timeout_seconds: float | None, *, may_appear: bool) -> JobRow | None:
        """Wait until the job has ended (or is gone), and read it; the job as it stands when the time is over.

        A job that `may_appear` isn't gone as long as it hasn't been there.

        Raises:
            TimeoutError: The time is over, and the database doesn't tell how the job stands.
            DatabaseUnavailable: The first look has failed; later ones are made again.
        """
        ...

    async def history(self, job_id: int) -> list[AttemptRecord[Any]]:
        """Read the job's attempts."""
        ...


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is, as its handler reported by `ctx.progress`.

    Attributes:
        done: How much is done, in the handler's own unit.
        total: How much there is, when that is known.
        note: A few words on what is being done.
        at: When it was reported, by the worker's clock.
    """

    done: float
    total: float | None
    note: str | None
    at: datetime


class Job(Generic[M, X, R, E]):
    """A stored run of a task, as it was when it was last read: at its start, by a query, by `refresh`."""

    __slots__ = ("__weakref__", "_decoded", "_is_certain", "_row", "_source", "_task")

    def __init__(
        self, row: JobRow, task: Task[M, X, R, E] | None, source: JobSource, *, is_certain: bool = True
    ) -> None:
        """Show a row.

        Args:
            row: What was read.
            task: Its definition; None when the app has none of this name: then payloads are plain JSON values.
            source: Where to read it anew.
            is_certain: Whether it is known to be committed, which a job of the caller's own transaction isn't.
        """
        self._row = row
        self._task = task
        self._source = source
        self._is_certain = is_certain
        self._decoded: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.name!r}: {self.state}>"

    @property
    def id(self) -> int:
        """The job's id; ids grow, but for gaps."""
        return self._row.id

    @property
    def name(self) -> str:
        """The name of its task."""
        return self._row.task

    @property
    def state(self) -> JobState:
        """Where it is in its life."""
        return JobState.from_code(self._row.state)

    @property
    def queue(self) -> str:
        """The line it waits in."""
        return self._row.queue

    @property
    def priority(self) -> int:
        """Larger runs first, from -100 to 100."""
        return self._row.priority

    @property
    def attempt(self) -> int:
        """How many attempts there have been, one that runs included; it never goes back."""
        return self._row.attempt

    @property
    def retry_number(self) -> int:
        """How many enqueueing retries have been spent."""
        return self._row.retry_number

    @property
    def created_at(self) -> datetime:
        """When it was started."""
        return self._row.created_at

    @property
    def scheduled_at(self) -> datetime | None:
        """When it is, or was, due; None when it is suspended until somebody lets it go on."""
        return self._row.scheduled_at

    @property
    def started_at(self) -> datetime | None:
        """When a worker took it for its last attempt: up to a second before its handler was called, where many wait."""
        return self._row.started_at

    @property
    def finished_at(self) -> datetime | None:
        """When it ended; None while it hasn't."""
        return self._row.finished_at

    @property
    def deadline_at(self) -> datetime | None:
        """When it fails, wherever it is by then; None when it has no deadline."""
        return self._row.deadline_at

    @property
    def woken_by(self) -> WokenBy:
        """What let it go on from its last suspension; of a suspended job the time, unless somebody is sooner.

        Raises:
            PayloadUndecodable: What is stored is nothing that this version knows.
        """
        return decode_woken_by(self._row.woken_by, what=f"job {self.id}")

    @property
    def version(self) -> int:
        """The version of the task's code that wrote its metadata and execution metadata."""
        return self._row.version

    @property
    def worker_id(self) -> UUID | None:
        """The worker that runs it or, once it has ended, ran it last."""
        return self._row.worker_id

    @property
    def cancel_requested(self) -> bool:
        """Whether it will be cancelled when its attempt ends."""
        return self._row.cancel_requested

    @property
    def last_error(self) -> str | None:
        """In a line, what went wrong last; None when nothing has since the last success."""
        return self._row.last_error

    @property
    def metadata(self) -> M:
        """Its input; what older code has written is brought up to date, here alone and not in the database.

        Raises:
            PayloadUndecodable: What is stored doesn't fit the task's type, or newer code has written it.
        """
        metadata: M = self._once("metadata", lambda: self._read("metadata", self._row.metadata))
        return metadata

    @property
    def execution_metadata(self) -> X:
        """Its checkpoint, as it was stored when the job was read. Changing the object changes nothing that is stored.

        What older code has written is brought up to date, here alone and not in the database.

        Raises:
            PayloadUndecodable: What is stored doesn't fit the task's type, or newer code has written it.
        """
        data = self._row.execution_metadata
        checkpoint: X = self._once("execution_metadata", lambda: self._read("execution_metadata", data))
        return checkpoint

    @property
    def stored_result(self) -> R | None:
        """Its result as it was when the job was read, without waiting; None until it is completed.

        Raises:
            PayloadUndecodable: What is stored doesn't fit the task's type.
        """
        data = self._row.result
        return None if data is None else self._once("result", lambda: self._decode_result(data))

    @property
    def error(self) -> E | Raised | None:
        """Its error: of the task's type from `Failed` and `Cancelled`, else `Raised`; None when it has none.

        Raises:
            PayloadUndecodable: What is stored doesn't fit the task's type.
        """
        data = self._row.error
        return None if data is None else self._once("error", lambda: self._decode_error(data))

    @property
    def progress(self) -> JobProgress | None:
        """How far it is, as its handler last reported; None also when what is stored is no such report."""
        data = self._row.progress
        return None if data is None else self._once("progress", lambda: _decode_progress(data))

    @property
    def is_certain(self) -> bool:
        """Whether it is known to be committed: False until a job that was started in a caller's transaction is read."""
        return self._is_certain

    def untyped(self) -> Job[Any, Any, Any, Any]:
        """The same, as an app without its task shows it: payloads are plain JSON values, as they are stored."""
        return Job(self._row, None, self._source, is_certain=self._is_certain)

    async def refresh(self) -> Self:
        """Read the job anew, into this object, and return it.

        Raises:
            JobNotFoundError: It has been deleted.
        """
        self.show(await self._source.read(self.id))
        return self

    async def history(self) -> list[AttemptRecord[E]]:
        """Read its attempts by number, the newest 100 of them; one that runs is the last.

        Raises:
            JobNotFoundError: It has been deleted.
        """
        return await self._source.history(self.id)

    async def result(self, timeout: Duration | None = None) -> R:  # noqa: ASYNC109 - the interface's word
        """Wait until the job has ended, and return its result.

        A job that was started in a transaction of yours is waited for until that is committed, too.

        Args:
            timeout: How long to wait at most: seconds, a timedelta, a timespan such as "00:05:00"; None waits for ever.
                When it is over it is looked once more how the job stands, which takes up to 2 s longer where the
                database is slow to answer.

        Raises:
            JobFailed: The job failed; its `error` is the job's.
            JobCancelled: The job was cancelled.
            TimeoutError: The job hasn't ended in this time, or the database doesn't tell. It goes on.
            DatabaseUnavailable: The first look at it has failed; later ones are made again, until the time is over.
            JobNotFoundError: It has been deleted, or the transaction that it was started in wasn't committed in time.
            MisuseError: The time-out is no duration.
            PayloadUndecodable: Its result doesn't fit the task's type; or the encoding of the app's connections lacks a
                character of what is stored of it.
        """
        seconds = wait_seconds(timeout, key="result: timeout")
        try:
            # Looked at anew though it has ended by what is known here: it may have been retried since.
            row = await self._source.read_ended(self.id, seconds, may_appear=not self._is_certain)
        except TimeoutError as error:
            raise self.unanswered(seconds) from error
        self.show(row)
        return self.ended_result(seconds)

    def ended_result(self, waited_seconds: float | None) -> R:
        """Return the result of a job that was read after a wait, or raise as `result` does."""
        if not self.state.is_final:
            message = (
                f"job {self.id} ({self.name}) has not ended within {waited_seconds or 0:.10g} s; it is {self.state}"
            )
            raise TimeoutError(message)
        if self.state is JobState.COMPLETED:
            result: R = self._once("result", lambda: self._decode_result(self._row.result or b"null"))
            return result
        error: object
        try:
            error = self.error
        except PayloadUndecodable as undecodable:
            error = str(undecodable)
        kind, verb = (JobCancelled, "was cancelled") if self.state is JobState.CANCELLED else (JobFailed, "failed")
        message = f"job {self.id} ({self.name}) {verb}" + ("" if error is None else f": {_shortened(str(error))}")
        raise kind(message, job_id=self.id, error=error)

    def unanswered(self, waited_seconds: float | None) -> TimeoutError:
        """Return the error of a wait at whose end the database didn't tell how the job stands."""
        message = (
            f"job {self.id} ({self.name}) has not ended within {waited_seconds or 0:.10g} s, as far as is known: the "
            f"database didn't answer in time; it was {self.state} when this handle was last read"
        )
        return TimeoutError(message)

    def show(self, row: JobRow | None) -> None:
        """Show a row that was read anew.

        Raises:
            JobNotFoundError: There is none.
        """
        if row is None:
            message = f"there is no job {self.id} ({self.name}) any more"
            if not self._is_certain:
                message = (
                    f"there is no job {self.id} ({self.name}): the transaction that it was started in isn't committed"
                )
            raise JobNotFoundError(message)
        self._row, self._is_certain = row, True
        self._decoded.clear()

    def _once(self, what: str, decode: Callable[[], Any]) -> Any:
        if what not in self._decoded:
            self._decoded[what] = decode()
        return self._decoded[what]

    def _read(self, kind: PayloadKind, data: bytes) -> Any:
        """Decode a payload as the code at hand has it, whatever version has written it."""
        what = f"job {self.id}: {kind.replace('_', ' ')}"
        if self._task is None:
            return read_plain(data, what=what)
        return read_payload(self._task, kind, data, self._row.version, what=what)

    def _decode_result(self, data: bytes) -> Any:
        what = f"job {self.id}: result"
        return read_plain(data, what=what) if self._task is None else self._task.result.decode(data, what=what)

    def _decode_error(self, data: bytes) -> Any:
        codec = None if self._task is None else self._task.error
        return decode_error(data, codec, what=f"job {self.id}: error")


def _decode_progress(data: bytes) -> JobProgress | None:
    try:
        progress = msgspec.json.decode(data, type=JobProgress)
        if progress.at.utcoffset() is None:
            return None  # a time without a zone is compared with none
        progress.at.astimezone(UTC)  # at the calendar's ends a time can't be shown in every zone
    except (msgspec.MsgspecError, RecursionError, OverflowError):
        return None
    return progress


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
