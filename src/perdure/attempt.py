"""A running attempt: its fence, its checkpoint and what stops it. The worker and the handler's context share it.

What has to be written goes through the `perdure.port.Port`, which the worker implements. Here nothing waits for I/O.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from enum import Enum
from typing import TYPE_CHECKING, Any

from perdure.cancelling import held
from perdure.errors import LeaseLost, MisuseError
from perdure.shown import shorten
from perdure.store.links import cut
from perdure.store.settles import Persist

if TYPE_CHECKING:
    from uuid import UUID

    from psycopg import BaseConnection

    from perdure.core.codec import Codec
    from perdure.errors import PayloadError
    from perdure.port import Port
    from perdure.store.claims import Claimed
    from perdure.store.running import Upgrade
    from perdure.task import Task

__all__ = ["Attempt", "StopReason"]

_LONGEST_KEY = 200


class StopReason(Enum):
    """Why an attempt is stopped from outside its handler."""

    SHUTDOWN = "shutdown"
    CANCEL = "cancel"
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    LEASE_LOST = "lease lost"


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
        refused: What its last transaction has raised, if the database took the lease for lost and rolled that back.
        ended: The handler has ended: what its other tasks have not begun to write isn't written any more.
        started: Whether the handler has begun.
        write_lock: See `writing`; None until something is written.
        entry: The execution metadata at the entry of the open transaction, encoded.
        connection: That of the open transaction.
        asked_at_seconds: Since when it is asked for what isn't the handler's own (to begin, to commit, to roll back).
        handed: The events that the handler has been given since the last checkpoint: the next one consumes them.
        took_events: Whether a checkpoint of this attempt has consumed an event.
        sleeps: How many sleeps the run has come to.
        steps: What the job's steps have returned, as JSON, by their keys; None until they are read.
        upgrade: The payloads to store before the handler runs, where older code has written them.
        unreadable: Why an event or a step's result couldn't be read: the job waits for other code, if it ends so.
    """

    # As every attempt begins. On the class, since most attempts of short jobs change few of them.
    stop_reason: StopReason | None = None
    closed = False
    refused: LeaseLost | None = None
    ended = False
    started = False
    in_transaction = False
    entry = b""
    connection: BaseConnection[Any] | None = None
    asked_at_seconds: float | None = None
    started_at_seconds = 0.0
    handle: asyncio.Task[None] | None = None
    timers: list[asyncio.TimerHandle] | None = None
    next_progress: bytes | None = None
    progress_at_seconds = float("-inf")
    handed: tuple[int, ...] = ()
    took_events = False
    sleeps = 0
    steps: dict[str, bytes] | None = None
    unreadable: PayloadError | None = None
    write_lock: asyncio.Lock | None = None
    _before_events = b""
    _handed_at_entry = 0
    _step_keys: set[str] | None = None

    def __init__(
        self,
        job: Claimed,
        task: Task[Any, Any, Any, Any],
        worker_id: UUID,
        port: Port,
        loop: asyncio.AbstractEventLoop,
        payloads: tuple[Any, Any, bytes, Upgrade | None],
    ) -> None:
        """Begin as the claim found the job; the payloads are those that `perdure.worker.reading` has read."""
        self.job = job
        self.task = task
        self.worker_id = worker_id
        self.metadata, self.execution_metadata, self.baseline, self.upgrade = payloads
        self.checkpoint = job.checkpoint
        self.loop = loop
        self._port = port

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
        """Held while a checkpoint is being written: they are numbered, so they go one by one.

        So do what belongs to one: to hand out an event, to begin and to end a transaction. It is never held while the
        handler's own code runs, which may wait for whoever waits for it.
        """
        if self.write_lock is None:
            self.write_lock = asyncio.Lock()
        return self.write_lock

    async def settle_writing(self) -> None:
        """Wait until it is known what has become of a checkpoint that another task of the ended handler is writing.

        For its outcome follows that one. Steps whose function has ended are stored as well; nothing else begins to be
        written, and a stop changes nothing any more.
        """
        if self.write_lock is not None and self.write_lock.locked():
            self.ended = True
            with contextlib.suppress(asyncio.CancelledError):
                await held(self._pass_writing())

    async def _pass_writing(self) -> None:
        async with self.writing:
            pass

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

    def changed_at_end(self) -> bytes | None:
        """Encode the execution metadata as `encode_at_end`; None when it is as stored, as with most jobs.

        Raises:
            PayloadRefused: It can't be stored without loss, or is too large.
        """
        if self.execution_metadata is None and self.baseline == b"null" and not self.in_transaction:
            return None
        data = self.encode_at_end()
        return None if data == self.baseline else data

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

    def begin_step(self, key: object) -> None:
        """Take note that a step (or a sleep) begins.

        Raises:
            MisuseError: The key is none, or another step of this run had it.
        """
        if not (isinstance(key, str) and 0 < len(key) <= _LONGEST_KEY and key.isprintable()):
            message = (
                f"job {self.job.id}: {shorten(key)} can't be a step's key: that has 1 to {_LONGEST_KEY} printable "
                "characters"
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

    def next_checkpoint(self, data: bytes) -> Persist:
        """Name the predecessor of a new checkpoint, and what is consumed with it."""
        return Persist(self.job.id, self.job.claim, self.checkpoint, data, self.handed)

    def next_step(self, key: str, result: bytes) -> Persist:
        """Store a step's result: with the execution metadata as it stands, where that may be stored.

        While an event is handed out, or a transaction is open, the execution metadata belongs to that unit, which may
        still be undone; what the step has done can't be. So its result is stored alone.

        Raises:
            PayloadRefused: The execution metadata can't be stored without loss, or is too large.
        """
        data = None if self.handed or self.in_transaction else self.encode()
        return Persist(self.job.id, self.job.claim, self.checkpoint, data, (), ((key, result),))

    def wrote(self, entry: Persist) -> None:
        """Take note that a checkpoint is stored."""
        self.refused = None
        self.checkpoint += 1
        if entry.execution_metadata is not None:
            self.baseline = entry.execution_metadata
            if entry.events:
                self.took_events = True
                self.handed = self.handed[len(entry.events) :]
            self._before_events = self.baseline  # where what remains handed out begins
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

    def close(self) -> None:
        """Write nothing any more; whoever waits in the open transaction, maybe for ever, gets an error and can end."""
        self.closed = True
        if self.connection is not None:
            cut(self.connection)

    def cut_if_silent(self, limit_seconds: float) -> None:
        """Break the transaction's connection when it hasn't answered for so long what isn't the handler's own.

        Nobody else does: a cancellation is held until it is known what has become of a COMMIT, and whoever takes the
        bytes and passes nothing on (a proxy, a pooler) keeps the connection alive for the kernel.
        """
        asked_at_seconds, connection = self.asked_at_seconds, self.connection
        if asked_at_seconds is None or connection is None:
            return
        if time.monotonic() - asked_at_seconds > limit_seconds:
            cut(connection)

    def check_may_write(self) -> None:
        """Make sure, as far as this process can know, that the attempt may still write.

        Raises:
            LeaseLost: It may not.
        """
        if self.ended:
            raise self.lease_lost()
        self.check_holds()

    def check_holds(self) -> None:
        """Make sure, as `check_may_write`, that what is on its way may still be written.

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
