"""A running attempt: its fence, its checkpoint and what stops it. The worker and the handler's context share it.

Does no I/O: what has to be written goes through the `Port`, which the worker implements.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from perdure.errors import LeaseLost, MisuseError
from perdure.store.settles import Persist

if TYPE_CHECKING:
    from concurrent.futures import Future as ThreadFuture
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from uuid import UUID

    from psycopg import AsyncConnection, Connection

    from perdure.core.codec import Codec
    from perdure.store.settles import Claimed
    from perdure.store.sql import Names
    from perdure.task import Task

__all__ = ["Attempt", "Port", "StopReason"]


class StopReason(Enum):
    """Why an attempt is stopped from outside its handler."""

    SHUTDOWN = "shutdown"
    CANCEL = "cancel"
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    LEASE_LOST = "lease lost"


class Port(Protocol):
    """What an attempt needs of its worker."""

    @property
    def names(self) -> Names:
        """The schema's names."""
        ...

    @property
    def lease_seconds(self) -> float:
        """How long the worker's lease lasts after each renewal."""
        ...

    @property
    def max_payload_bytes(self) -> int:
        """The longest JSON of a payload."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether the worker has been asked to stop."""
        ...

    def holds(self, worker_id: UUID) -> bool:
        """Whether the lease of this id is still valid, by this process's monotonic clock."""
        ...

    async def persist(self, attempt: Attempt, data: bytes) -> None:
        """Write a checkpoint; sets the attempt's `checkpoint` and `baseline` when it is written.

        Raises:
            LeaseLost: The attempt may not write any more.
        """

    def report_progress(self, attempt: Attempt, data: bytes) -> None:
        """Write the progress soon."""

    def connection(self) -> AbstractAsyncContextManager[AsyncConnection[Any]]:
        """Lend a connection of the application's pool."""
        ...

    def blocking_connection(self) -> AbstractContextManager[Connection[Any]]:
        """Lend a sync connection of the application's pool, to a handler's thread."""
        ...

    async def has_landed(self, attempt: Attempt, entry: Persist) -> bool:
        """Find out for good whether the COMMIT of this checkpoint was done.

        Raises:
            LeaseLost: It wasn't, and the attempt may not write any more.
        """
        ...


class Attempt:
    """One claim and run of a job.

    Attributes:
        job: The claimed row.
        task: The task's definition.
        worker_id: Whose lease covers it.
        metadata: The decoded input.
        execution_metadata: The decoded checkpoint, as the handler changes it.
        checkpoint: The number of the stored checkpoint.
        baseline: The stored checkpoint, encoded as this process encodes.
        stop_reason: Why it was asked to stop, once it was.
        closed: Nothing that the handler does is written any more (its outcome is decided, or it was left behind).
        started: Whether the handler has begun.
        entry: The execution metadata at the entry of the open transaction, encoded.
    """

    __slots__ = (
        "_port",
        "_writing",
        "baseline",
        "checkpoint",
        "closed",
        "entry",
        "execution_metadata",
        "handle",
        "in_transaction",
        "job",
        "loop",
        "metadata",
        "next_progress",
        "progress_at_seconds",
        "started",
        "started_at_seconds",
        "stop_reason",
        "task",
        "thread",
        "timers",
        "worker_id",
    )

    def __init__(
        self,
        job: Claimed,
        task: Task[Any, Any, Any, Any],
        worker_id: UUID,
        port: Port,
        loop: asyncio.AbstractEventLoop,
        metadata: Any,
        execution_metadata: Any,
        baseline: bytes,
    ) -> None:
        """Begin as the claim found the job."""
        self.job = job
        self.task = task
        self.worker_id = worker_id
        self.metadata = metadata
        self.execution_metadata = execution_metadata
        self.baseline = baseline
        self.checkpoint = job.checkpoint
        self.stop_reason: StopReason | None = None
        self.closed = False
        self.started = False
        self.in_transaction = False
        self.entry = b""
        self.started_at_seconds = 0.0
        self.handle: asyncio.Task[None] | None = None
        self.thread: ThreadFuture[Any] | None = None
        self.timers: list[asyncio.TimerHandle] | None = None
        self.loop = loop
        self.next_progress: bytes | None = None
        self.progress_at_seconds = float("-inf")
        self._port = port
        self._writing: asyncio.Lock | None = None

    @property
    def codec(self) -> Codec[Any]:
        """How the execution metadata is encoded."""
        return self.task.execution_metadata

    @property
    def stopping(self) -> bool:
        """Whether the handler is asked to come to an end."""
        return self.stop_reason is not None or self._port.stopping

    @property
    def writing(self) -> asyncio.Lock:
        """Held while a checkpoint is being written: they are numbered, so they go one by one."""
        if self._writing is None:
            self._writing = asyncio.Lock()
        return self._writing

    def encode(self) -> bytes:
        """Encode the execution metadata as it stands.

        Raises:
            PayloadRefused: It can't be stored without loss, or is too large.
        """
        return self.codec.encode(self.execution_metadata, what="execution metadata", limit=self._port.max_payload_bytes)

    def encode_at_end(self) -> bytes:
        """Encode the execution metadata for the outcome: as at the entry of a transaction that is still open.

        Its rows can't commit any more, so the checkpoint must not claim them.

        Raises:
            PayloadRefused: It can't be stored without loss, or is too large.
        """
        return self.entry if self.in_transaction else self.encode()

    def next_checkpoint(self, data: bytes) -> Persist:
        """Name the predecessor of a new checkpoint."""
        return Persist(self.job.id, self.job.claim, self.checkpoint, data)

    def wrote(self, data: bytes) -> None:
        """Take note that a checkpoint is stored."""
        self.checkpoint += 1
        self.baseline = data

    def restore(self, data: bytes) -> None:
        """Put the execution metadata back to what it was, in the same object where that is mutable."""
        self.execution_metadata = self.codec.restore(self.execution_metadata, data)

    def check_may_write(self) -> None:
        """Make sure, as far as this process can know, that the attempt may still write.

        Raises:
            LeaseLost: It may not.
        """
        if self.closed or self.stop_reason is StopReason.LEASE_LOST or not self._port.holds(self.worker_id):
            message = (
                f"job {self.job.id}, attempt {self.job.attempt}: the lease is lost, so nothing that this attempt "
                "writes is kept; another attempt goes on from the last persisted execution metadata"
            )
            raise LeaseLost(message)

    def check_not_in_transaction(self, call: str) -> None:
        """Make sure that no `ctx.transaction()` is open.

        Raises:
            MisuseError: One is.
        """
        if self.in_transaction:
            message = (
                f"job {self.job.id}: ctx.{call} isn't allowed inside ctx.transaction(): the transaction's commit "
                "writes the execution metadata; leave the block first"
            )
            raise MisuseError(message)

    def check_thread_not_stopped(self) -> None:
        """End a handler that runs in a thread at its next call, once its attempt is stopped.

        Raises:
            LeaseLost: The attempt has lost its lease or was left behind.
            asyncio.CancelledError: It is cancelled; `except Exception` doesn't catch this.
        """
        self.check_may_write()
        if self.stop_reason is not None:
            raise asyncio.CancelledError(self.stop_reason.value)
