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
    from datetime import datetime
    from uuid import UUID

    from psycopg import AsyncConnection, Connection

    from perdure.core.codec import Codec
    from perdure.errors import PayloadError
    from perdure.store.running import Event, Upgrade
    from perdure.store.settles import Claimed
    from perdure.store.sql import Names
    from perdure.task import Task

__all__ = ["Attempt", "Port", "StopReason"]

_LONGEST_KEY = 200


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

    async def persist(self, attempt: Attempt, entry: Persist) -> None:
        """Write a checkpoint, and tell the attempt (`wrote`) when it is written.

        Raises:
            LeaseLost: The attempt may not write any more.
        """

    async def next_event(self, attempt: Attempt) -> Event | None:
        """Read the job's oldest event that the attempt hasn't been given."""
        ...

    async def steps(self, attempt: Attempt) -> dict[str, bytes]:
        """Read what the job's steps have returned, as JSON, by their keys."""
        ...

    async def begin_sleep(self, attempt: Attempt, key: str, seconds: float) -> tuple[datetime, bool]:
        """Store until when a sleep lasts, or find it stored; answers that, and whether it is past.

        Raises:
            LeaseLost: The attempt may not write any more.
        """
        ...

    async def upgrade(self, attempt: Attempt, entry: Upgrade) -> None:
        """Write both payloads as newer code has them, as the job's next checkpoint.

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
        handed: The events that the handler has been given since the last write: the next one consumes them.
        sleeps: How many sleeps the run has come to.
        steps: What the job's steps have returned, as JSON, by their keys; None until they are read.
        upgrade: The payloads to store before the handler runs, where older code has written them.
        unreadable: Why an event or a step's result couldn't be read: the job waits for other code, if it ends so.
    """

    __slots__ = (
        "_before_events",
        "_handed_at_entry",
        "_port",
        "_step_keys",
        "_writing",
        "baseline",
        "checkpoint",
        "closed",
        "entry",
        "execution_metadata",
        "handed",
        "handle",
        "in_transaction",
        "job",
        "loop",
        "metadata",
        "next_progress",
        "progress_at_seconds",
        "sleeps",
        "started",
        "started_at_seconds",
        "steps",
        "stop_reason",
        "task",
        "thread",
        "timers",
        "unreadable",
        "upgrade",
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
        self.handed: tuple[int, ...] = ()
        self.sleeps = 0
        self.steps: dict[str, bytes] | None = None
        self.unreadable: PayloadError | None = None
        self.upgrade: Upgrade | None = None
        self._port = port
        self._writing: asyncio.Lock | None = None
        self._before_events = b""
        self._handed_at_entry = 0
        self._step_keys: set[str] | None = None

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
        if self.execution_metadata is None and self.baseline == b"null":
            return self.baseline  # most jobs need no checkpoint
        return self.codec.encode(self.execution_metadata, what="execution metadata", limit=self._port.max_payload_bytes)

    def encode_at_end(self) -> bytes:
        """Encode the execution metadata for the outcome: as at the entry of a transaction that is still open.

        Its rows can't commit any more, so the checkpoint must not claim them.

        Raises:
            PayloadRefused: It can't be stored without loss, or is too large.
        """
        return self.entry if self.in_transaction else self.encode()

    def used_at_end(self) -> tuple[int, ...]:
        """The events that go with `encode_at_end`."""
        return self.handed[: self._handed_at_entry] if self.in_transaction else self.handed

    def encode_when_stopped(self) -> bytes:
        """Encode the execution metadata for an attempt that is stopped: what it began with an event is undone.

        The event goes to the next attempt, so the checkpoint must not hold a part of its work.

        Raises:
            PayloadRefused: It can't be stored without loss, or is too large.
        """
        return self._before_events if self.handed else self.encode_at_end()

    def hand_out(self, event_id: int) -> None:
        """Take note that the handler is about to be given an event.

        Raises:
            PayloadRefused: The execution metadata as it stands can't be stored.
        """
        if not self.handed:
            self._before_events = self.encode_at_end()
        self.handed += (event_id,)

    def begin_step(self, key: str) -> None:
        """Take note that a step (or a sleep) begins.

        Raises:
            MisuseError: The key is none, or another step of this run had it.
        """
        if not (0 < len(key) <= _LONGEST_KEY and key.isprintable()):
            message = (
                f"job {self.job.id}: {key!r} can't be a step's key: that has 1 to {_LONGEST_KEY} printable characters"
            )
            raise MisuseError(message)
        if self._step_keys is None:
            self._step_keys = set()
        if key in self._step_keys:
            message = (
                f"job {self.job.id}: there was a step {key!r} in this run already; each needs a key of its own, in a "
                f'loop such as f"{key} {{number}}"'
            )
            raise MisuseError(message)
        self._step_keys.add(key)

    def next_checkpoint(self, data: bytes, steps: tuple[tuple[str, bytes], ...] = ()) -> Persist:
        """Name the predecessor of a new checkpoint, and what is stored and consumed with it."""
        return Persist(self.job.id, self.job.claim, self.checkpoint, data, self.handed, steps)

    def wrote(self, entry: Persist) -> None:
        """Take note that a checkpoint is stored."""
        self.checkpoint += 1
        self.baseline = entry.execution_metadata
        if entry.events:
            self.handed = self.handed[len(entry.events) :]
        if entry.steps and self.steps is not None:
            self.steps.update(entry.steps)

    def enter_transaction(self) -> bytes:
        """Remember what a roll-back puts back, and return the execution metadata of it.

        Raises:
            PayloadRefused: The execution metadata can't be stored without loss, or is too large.
        """
        self.entry = self.encode()
        self._handed_at_entry = len(self.handed)
        self.in_transaction = True
        return self.entry

    def undo_transaction(self) -> None:
        """Put back what was at the entry, in the same object where that is mutable; events are given anew."""
        self.handed = self.handed[: self._handed_at_entry]
        self.execution_metadata = self.codec.restore(self.execution_metadata, self.entry)

    def check_may_write(self) -> None:
        """Make sure, as far as this process can know, that the attempt may still write.

        Raises:
            LeaseLost: It may not.
        """
        if self.closed or self.stop_reason is StopReason.LEASE_LOST or not self._port.holds(self.worker_id):
            raise self.lease_lost()

    def lease_lost(self) -> LeaseLost:
        """Make the error of a write that came too late."""
        return LeaseLost(
            f"job {self.job.id}, attempt {self.job.attempt}: the lease is lost, so nothing that this attempt writes is "
            "kept; another attempt goes on from the last persisted execution metadata"
        )

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
