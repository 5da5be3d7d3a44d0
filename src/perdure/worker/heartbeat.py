"""The worker's lease: registered, renewed three times in its duration, given up in time by the process's own clock.

A thread with its own connection does it, so that a blocked event loop doesn't lose the lease. But a loop that is
blocked for good must not be kept alive by it: after `max_stall` the process ends. Code that holds the GIL for longer
than a lease starves this thread all the same; `--processes` and the fences are the answer to that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from perdure.failpoints import reach
from perdure.store import calls, leases
from perdure.store.links import cut
from perdure.store.refusals import for_log
from perdure.store.sessions import ISOLATION, settle_blocking, time_out_milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from perdure.store.calls import Call
    from perdure.store.sql import Names
    from perdure.worker.condition import Condition

__all__ = ["Heartbeat"]

T = TypeVar("T")
_log = logging.getLogger("perdure.worker")
# Handlers are stopped this share of the lease before its end, so that they have unwound when another may begin.
_MARGIN = 0.1
_LONGEST_MARGIN_SECONDS = 2.0
_BACK_OFF_SECONDS = (0.05, 1.0)
_STALLED_EXIT_CODE = 1
_LEASELESS_SECONDS = 0.5
_LONGEST_PATIENCE_SECONDS = 60
_NAME = "heartbeat"


class Heartbeat:
    """Holds the lease of one worker process, under one id after another."""

    def __init__(  # noqa: PLR0913 - where the lease is kept, and what depends on it
        self,
        dsn: str,
        names: Names,
        *,
        keeps_sessions: bool,
        lease_seconds: float,
        max_stall_seconds: float,
        registration: Callable[[uuid.UUID], Call[None]],
        loop: asyncio.AbstractEventLoop,
        on_lease: Callable[[uuid.UUID], None],
        on_lost: Callable[[uuid.UUID], None],
        condition: Condition,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            dsn: Where the database is.
            names: The schema's names.
            keeps_sessions: Whether settings may be kept in sessions when no pooler is noticed.
            lease_seconds: How long a lease lasts.
            max_stall_seconds: How long the event loop may stand still before the process ends.
            registration: The call that registers an id.
            loop: On which the callbacks run.
            on_lease: Called with each new id.
            on_lost: Called with an id whose lease is lost, before there is a new one.
            condition: Told, on the loop, whether the database does what is asked.
        """
        self._dsn = dsn
        self._names = names
        self._keeps_sessions = keeps_sessions
        self._lease_seconds = lease_seconds
        self._limit = [str(time_out_milliseconds(lease_seconds))]
        self._max_stall_seconds = max_stall_seconds
        self._registration = registration
        self._loop = loop
        self._on_lease = on_lease
        self._on_lost = on_lost
        self._condition = condition
        self._has_registered = False
        self._has_beaten = False
        self._worker_id: uuid.UUID | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self._asked_at_seconds: float | None = None
        self._session_is_ours = True
        self._valid_until_seconds = 0.0
        self._stop = threading.Event()
        self._hurried = threading.Event()
        self._ended = asyncio.Event()
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="perdure heartbeat", daemon=True)
        self._loop_turns = 0
        self._seen_turns = 0
        self._stalled_seconds = 0.0
        self._checked_at_seconds = time.monotonic()

    @property
    def margin_seconds(self) -> float:
        """How long before a lease's end handlers are stopped."""
        return min(_LONGEST_MARGIN_SECONDS, self._lease_seconds * _MARGIN)

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to register and renew."""
        self._thread.start()

    async def stop(self) -> None:
        """Give the lease back and end the thread; waits for that no longer than the lease lasts."""
        self._stop.set()
        self.hurry()
        # Without a lease there is nothing to give back; the thread ends when its connecting does.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(_LEASELESS_SECONDS, self.remaining_seconds)):
                await self._ended.wait()

    def hurry(self) -> None:
        """Renew now: the database was away, so it may be another one, on which the lease isn't good."""
        self._hurried.set()

    def holds(self, worker_id: uuid.UUID) -> bool:
        """Whether the lease of this id is valid, by the monotonic clock; once told that it isn't, it never is again."""
        if worker_id != self._worker_id:
            return False
        if time.monotonic() < self._valid_until_seconds:
            return True
        # Else a late renewal might keep jobs that nobody runs any more.
        self._lose(worker_id, "it couldn't be renewed in time")
        return False

    @property
    def remaining_seconds(self) -> float:
        """How long the lease still lasts, by the monotonic clock; 0 without one."""
        return 0.0 if self._worker_id is None else max(0.0, self._valid_until_seconds - time.monotonic())

    def turned(self) -> None:
        """Take note that the event loop turns; and give the lease up, if it couldn't be renewed in time."""
        self._loop_turns += 1
        self._cut_if_silent()
        worker_id = self._worker_id
        if worker_id is not None and time.monotonic() >= self._valid_until_seconds - self.margin_seconds:
            self._lose(worker_id, "it couldn't be renewed in time")

    @property
    def turn_seconds(self) -> float:
        """How often `turned` has to be called."""
        return min(1.0, self.margin_seconds / 2)

    def _run(self) -> None:
        try:
            self._hold()
        finally:
            self._call(self._ended.set)

    def _hold(self) -> None:
        shortest, longest = _BACK_OFF_SECONDS
        delay_seconds = shortest
        told: set[type[Exception]] = set()
        while not self._is_over():
            try:
                with self._connect() as connection:
                    self._connection = connection
                    with self._asking():
                        self._session_is_ours = settle_blocking(
                            connection, self._names, ISOLATION, may_keep=self._keeps_sessions
                        )
                    if not self._session_is_ours:
                        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
                    self._keep(connection)
            except psycopg.Error as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - whatever it is: without this thread the lease is lost
                if type(error) not in told:
                    told.add(type(error))
                    _log.warning("heartbeat: %s; trying again", for_log(error))
            if not self._is_over():
                self._check_stall()
            if self._has_beaten:
                self._has_beaten, delay_seconds = False, shortest
            self._stop.wait(delay_seconds * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            delay_seconds = min(longest, delay_seconds * 2)

    def _failed(self, error: psycopg.Error) -> None:
        # As in a lane: that a connection ends which has worked is no outage yet.
        if self._is_over() or self._has_beaten:
            _log.debug("heartbeat: %s", error)
        else:
            self._call(self._condition.failed, _NAME, error)

    def _connect(self) -> psycopg.Connection[Any]:
        # A network that swallows packets must not hold this thread for longer than a third of the lease; and the kernel
        # takes no number of seconds above 32,767.
        patience_seconds = max(1, min(_LONGEST_PATIENCE_SECONDS, int(self._lease_seconds / 3)))
        return psycopg.connect(
            self._dsn,
            autocommit=True,
            prepare_threshold=None,
            application_name="perdure heartbeat",
            client_encoding="UTF8",
            connect_timeout=max(2, patience_seconds),
            keepalives=1,
            keepalives_idle=patience_seconds,
            keepalives_interval=1,
            keepalives_count=2,
            tcp_user_timeout=patience_seconds * 1000,
        )

    def _keep(self, connection: psycopg.Connection[Any]) -> None:
        """Renew until told to stop, or until the connection breaks."""
        next_beat_at_seconds = 0.0
        while True:
            if (self._hurried.is_set() or time.monotonic() >= next_beat_at_seconds) and not self._is_over():
                self._hurried.clear()
                next_beat_at_seconds = time.monotonic() + self._lease_seconds / 3
                if not self._beat(connection):
                    next_beat_at_seconds = 0.0
                    continue
            self._check_stall()
            if self._is_over():  # before the wait, too: a beat has taken a stop's hurry for its own
                break
            wait_seconds = min(next_beat_at_seconds - time.monotonic(), self._max_stall_seconds / 4)
            self._hurried.wait(max(0.0, wait_seconds))
        worker_id = self._worker_id
        if worker_id is not None:
            self._ask(connection, leases.remove(self._names, worker_id))

    def _is_over(self) -> bool:
        # A closed loop runs no handler any more, whether or not somebody has stopped the worker before.
        return self._stop.is_set() or self._loop.is_closed()

    def _beat(self, connection: psycopg.Connection[Any]) -> bool:
        worker_id = self._worker_id
        sent_at_seconds = time.monotonic()
        reach("heartbeat.unsent")
        if worker_id is None:
            worker_id = uuid.uuid4()
            self._ask(connection, self._registration(worker_id))
            reach("heartbeat.committed")
            with self._guard:
                self._worker_id = worker_id
                self._valid_until_seconds = sent_at_seconds + self._lease_seconds
            if self._has_registered:
                # As loud as the loss, so that whoever sees the one sees the other.
                _log.warning("worker %s has a new lease: it claims again", worker_id)
            self._has_registered = True
            self._beaten()
            self._call(self._on_lease, worker_id)
            return True
        renewed = self._ask(connection, leases.renew(self._names, worker_id))
        reach("heartbeat.committed")
        self._beaten()
        with self._guard:
            if renewed and self._worker_id == worker_id:
                self._valid_until_seconds = sent_at_seconds + self._lease_seconds
                return True
        self._lose(worker_id, self._ask(connection, leases.loss(self._names, worker_id)))
        return False

    def _beaten(self) -> None:
        self._has_beaten = True
        self._call(self._condition.works, _NAME)

    def _ask(self, connection: psycopg.Connection[Any], call: Call[T]) -> T:
        with self._asking():
            if self._session_is_ours:
                return calls.run_blocking(connection, call)
            with connection.transaction():
                # A process that is frozen before the commit must not keep its row locked: its lease would never lapse.
                connection.execute("select set_config('idle_in_transaction_session_timeout', %s, true)", self._limit)
                return calls.run_blocking(connection, call)

    @contextlib.contextmanager
    def _asking(self) -> Generator[None]:
        self._asked_at_seconds = time.monotonic()
        try:
            yield
        finally:
            with self._guard:
                self._asked_at_seconds = None

    def _cut_if_silent(self) -> None:
        """Break a connection that doesn't answer, while there is time to renew over another.

        Whoever takes the bytes and passes nothing on (a proxy, a pooler) keeps it alive for the kernel.
        """
        with self._guard:
            asked_at_seconds, connection = self._asked_at_seconds, self._connection
            if asked_at_seconds is None or connection is None:
                return
            if time.monotonic() - asked_at_seconds > self._lease_seconds / 3:
                cut(connection)

    def _lose(self, worker_id: uuid.UUID, reason: str) -> None:
        with self._guard:
            if self._worker_id != worker_id:  # it is lost already, and there may be a new one
                return
            self._worker_id = None
        _log.warning("worker %s has lost its lease (%s): its jobs are left to others", worker_id, reason)
        self._call(self._on_lost, worker_id)

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _check_stall(self) -> None:
        """End the process when the event loop hasn't turned for `max_stall`.

        Counted in steps of this thread's own, so that the time in which the whole process was frozen doesn't count.
        """
        now_seconds = time.monotonic()
        step_seconds = min(now_seconds - self._checked_at_seconds, self._max_stall_seconds / 2)
        self._checked_at_seconds = now_seconds
        if self._loop_turns != self._seen_turns:
            self._seen_turns = self._loop_turns
            self._stalled_seconds = 0.0
            return
        self._stalled_seconds += step_seconds
        if self._stalled_seconds > self._max_stall_seconds and not self._stop.is_set():
            print(  # noqa: T201 - logging may need the very lock that is held
                f"perdure: the event loop hasn't turned for {self._stalled_seconds:.0f} s (max_stall is "
                f"{self._max_stall_seconds:.0f} s): a handler blocks it. The lease is given up and the process ends; "
                "its jobs go on elsewhere.",
                file=sys.stderr,
                flush=True,
            )
            os._exit(_STALLED_EXIT_CODE)
