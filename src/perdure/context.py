"""What a handler sees of its attempt: `Context`, and its twin for handlers that run in a thread.

Holds no rules of its own: fences are in the SQL, checkpoints in `attempt`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar, TypeVarTuple, overload

from perdure.cancelling import held
from perdure.core.states import WokenBy
from perdure.durations import parse_duration
from perdure.errors import MisuseError, PayloadError
from perdure.progress import written
from perdure.steps import Asleep, call_step, call_step_blocking, check_same_sleep, result_codec
from perdure.transaction import BlockingTransaction, Transaction
from perdure.upgrading import read_payload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from perdure.attempt import Attempt, StopReason
    from perdure.core.codec import Codec
    from perdure.durations import Duration
    from perdure.port import Port
    from perdure.retry import Retry

__all__ = ["BlockingContext", "Context"]

M = TypeVar("M")
X = TypeVar("X")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_PROGRESS_SECONDS = 1.0
_logger = logging.getLogger("perdure.job")


class _BaseContext(Generic[M, X]):
    """What both contexts share."""

    __slots__ = ("_attempt", "_port")

    def __init__(self, attempt: Attempt, port: Port) -> None:
        """Show an attempt to its handler."""
        self._attempt = attempt
        self._port = port

    @property
    def id(self) -> int:
        """The job's id."""
        return self._attempt.job.id

    @property
    def metadata(self) -> M:
        """The job's input. It never changes; what is changed in the object is not stored."""
        metadata: M = self._attempt.metadata
        return metadata

    @property
    def execution_metadata(self) -> X:
        """The checkpoint: change it (or set it) as the work goes on; see `persist` and `transaction`."""
        execution_metadata: X = self._attempt.execution_metadata
        return execution_metadata

    @execution_metadata.setter
    def execution_metadata(self, value: X) -> None:
        self._attempt.execution_metadata = value

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1; it never goes back."""
        return self._attempt.job.attempt

    @property
    def retry_number(self) -> int:
        """How many enqueueing retries have been spent."""
        return self._attempt.job.retry_number

    @property
    def stopping(self) -> bool:
        """Whether the worker, or this attempt, has been asked to stop: come to a good place to end."""
        return self._attempt.stopping

    @property
    def stop_reason(self) -> StopReason | None:
        """Why this attempt is asked to stop; None while it isn't."""
        return self._attempt.stop_reason

    @property
    def woken_by(self) -> WokenBy:
        """What let the job go on from its last suspension; `WokenBy.START` when there was none.

        It stays the same through retries, stops and lost workers, until the job is suspended again.
        """
        return WokenBy.from_code(self._attempt.job.woken_by)

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger (`perdure.job`) whose records carry the job's id, its task and the attempt."""
        job = self._attempt.job
        return logging.LoggerAdapter(_logger, {"job_id": job.id, "task": job.task, "attempt": job.attempt})

    async def _persist(self) -> None:
        attempt = self._attempt
        attempt.check_not_in_transaction("persist()")
        async with attempt.writing:
            attempt.check_may_write()
            attempt.check_not_in_transaction("persist()")  # another task may have opened one meanwhile
            await self._port.persist(attempt, attempt.next_checkpoint(attempt.encode()))

    async def _store_step(self, key: str, result: bytes) -> None:
        attempt = self._attempt
        async with attempt.writing:
            attempt.check_holds()  # not more: a handler that has ended waits for what waits here already
            await self._port.persist(attempt, attempt.next_step(key, result))

    async def _next_event(self) -> Any:
        attempt = self._attempt
        attempt.check_may_write()
        if attempt.task.events is None:
            message = (
                f"task {attempt.task.name!r} takes no events: declare them, @app.task(…, events=Approved | Rejected)"
            )
            raise MisuseError(message)
        async with attempt.writing:
            attempt.check_may_write()
            event = await self._port.next_event(attempt)
            if event is None:
                return None
            try:
                value = read_payload(attempt.task, "event", event.data, event.version, what=f"event {event.id}")
            except PayloadError as error:
                attempt.unreadable = error
                raise
            attempt.hand_out(event.id)
            return value

    async def _steps(self) -> dict[str, bytes]:
        attempt = self._attempt
        if attempt.steps is None:
            # Nothing ran before the first attempt.
            attempt.steps = await self._port.steps(attempt) if attempt.job.attempt > 1 else {}
        return attempt.steps

    async def _begin_step(self, key: str) -> bytes | None:
        self._attempt.check_not_in_transaction("step()")
        self._attempt.check_may_write()
        self._attempt.begin_step(key)
        return (await self._steps()).get(key)

    def _stored_result(self, key: str, codec: Codec[Any], data: bytes) -> Any:
        try:
            return codec.decode(data, what=f"result of step {key!r}")
        except PayloadError as error:
            self._attempt.unreadable = error
            raise

    async def _sleep(self, duration: Duration, key: str | None) -> None:
        attempt = self._attempt
        attempt.check_not_in_transaction("sleep()")
        attempt.check_may_write()
        attempt.sleeps += 1
        found = attempt.encode() if key is None else None
        key = f"sleep {attempt.sleeps}" if key is None else key
        seconds = parse_duration(duration, key="ctx.sleep").total_seconds()
        attempt.begin_step(key)
        begun = await self._port.begin_sleep(attempt, key, seconds, found)
        if begun.until is None:
            message = f"job {attempt.job.id}: {key!r} is the key of a step; give the sleep another: ctx.sleep(…, key=…)"
            raise MisuseError(message)
        if not begun.is_over:
            raise Asleep(begun.until)
        if found is not None:
            try:
                check_same_sleep(attempt.task, attempt.job.id, key, begun, found)
            except PayloadError as error:
                attempt.unreadable = error
                raise

    def _report(self, progress: bytes) -> None:
        attempt = self._attempt
        if attempt.closed:
            return
        is_waiting = attempt.next_progress is not None
        attempt.next_progress = progress
        if is_waiting:
            return
        wait_seconds = attempt.progress_at_seconds + _PROGRESS_SECONDS - attempt.loop.time()
        if wait_seconds <= 0:
            self._flush_progress()
        else:
            attempt.loop.call_later(wait_seconds, self._flush_progress)

    def _flush_progress(self) -> None:
        attempt = self._attempt
        data, attempt.next_progress = attempt.next_progress, None
        if data is not None and not attempt.closed:
            attempt.progress_at_seconds = attempt.loop.time()
            self._port.report_progress(attempt, data)


class Context(_BaseContext[M, X]):
    """What an `async def` handler sees of its attempt.

    The job goes on from `execution_metadata` as it was last stored: by `persist()`, by the commit of
    `transaction()`, or with the outcome.
    """

    __slots__ = ()

    async def persist(self) -> None:
        """Store the execution metadata as it stands now.

        Raises:
            LeaseLost: This attempt may not write any more.
            PayloadRefused: The execution metadata can't be stored as it is; the message says where and why.
            MisuseError: A `transaction()` is open: its commit stores the execution metadata.
        """
        await self._persist()

    def transaction(self) -> Transaction:
        """Open a transaction whose rows and the execution metadata commit together, or not at all.

        `async with ctx.transaction() as connection:` gives a psycopg connection of the application's pool. Leaving
        the block commits, unless this attempt has lost its lease; leaving it by an exception rolls back and puts the
        execution metadata back to what it was at entry.

        Raises:
            LeaseLost: When the block is left: nothing of it is kept.
            MisuseError: A transaction of this attempt is open already.
        """
        return Transaction(self._attempt, self._port)

    async def next_event(self) -> Any:
        """Return the job's oldest event that wasn't consumed yet; None without one.

        What is changed after it and the event are one unit until the next `persist()`, commit of `transaction()` or
        outcome, which consumes the event in the same write. A raise or a stop before that undoes both, and the event
        is given to the next attempt. Neither a step nor a sleep consumes it. One that is asked for while a
        transaction of this attempt is open is of that one, whichever task asks.

        Raises:
            MisuseError: The task declares no events.
            PayloadUndecodable: The event doesn't fit their types. An attempt that ends with this waits for other code.
            LeaseLost: This attempt may not write any more.
        """
        return await self._next_event()

    @overload
    async def step(
        self,
        key: str,
        function: Callable[[*Ts], Awaitable[T]],
        *arguments: *Ts,
        result: Any = None,
        retry: Retry | None = None,
    ) -> T: ...
    @overload
    async def step(
        self,
        key: str,
        function: Callable[[*Ts], T],
        *arguments: *Ts,
        result: Any = None,
        retry: Retry | None = None,
    ) -> T: ...
    async def step(  # type: ignore[misc] # mypy matches no implementation with *args: *Ts before keywords
        self, key: str, function: Callable[..., Any], *arguments: Any, result: Any = None, retry: Retry | None = None
    ) -> Any:
        """Call the function and store what it returns with the checkpoint; or return what an earlier attempt stored.

        A crash between the function's end and that write calls it again: give what it does a key that makes a
        repetition harmless (this one, and the job's id). The execution metadata as it stands is stored with it; unless
        an event is handed out, or a transaction is open, which may still be undone.

        Args:
            key: Names the step, once in a run; the same in every attempt.
            function: An `async def`; or a `def`, which runs in the event loop, so let it be short.
            arguments: What it is called with.
            result: The type of what it returns, where its annotation doesn't say.
            retry: When it is tried again after a raise, within the attempt: a policy of `perdure.retry`.

        Raises:
            MisuseError: The key was used in this run already, a `transaction()` is open, or the type isn't known.
            PayloadUndecodable: What is stored isn't of the type. An attempt that ends with this waits for other code.
            PayloadRefused: What it returned can't be stored; the message says where and why.
            LeaseLost: This attempt may not write any more.
        """
        codec = result_codec(key, function, result)
        stored = await self._begin_step(key)
        if stored is not None:
            return self._stored_result(key, codec, stored)
        value = await call_step(key, function, arguments, retry)
        data = codec.encode(value, what=f"result of step {key!r}", limit=self._port.max_payload_bytes)
        await held(self._store_step(key, data))  # the function has been called: a stop mustn't undo that
        return value

    async def sleep(self, duration: Duration, *, key: str | None = None) -> None:
        """Suspend the job for a while, and go on behind this line: deploys and crashes don't make it longer.

        The attempt ends here (`finally` blocks run) and the next one calls the handler anew; so what comes before must
        be steps, or guarded by the execution metadata. Events don't wake it.

        Args:
            duration: A timedelta, seconds or a timespan, from the first time that this is called, by the database's
                clock.
            key: Names the sleep for the job's life. When left out, the first of a run is "sleep 1", and so on: for
                handlers of steps. One that goes on from its execution metadata comes to another first sleep each time.

        Raises:
            MisuseError: The key was used in this run already, or a `transaction()` is open; or it has none, is over,
                and the execution metadata isn't what it was when it began: it may be another sleep than that one.
            LeaseLost: This attempt may not write any more.
        """
        await self._sleep(duration, key)

    async def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Show how far the job is. Written at most once a second, and persists nothing else.

        Args:
            done: How much is done, in whatever unit.
            total: How much there is, when that is known.
            note: A few words on what is being done: of more than 1,000 characters, the first 1,000.

        Raises:
            MisuseError: `done` or `total` is no finite number, or the note no text.
        """
        self._report(written(done, total, note))


class BlockingContext(_BaseContext[M, X]):
    """What a `def` handler, which runs in a thread, sees of its attempt.

    A thread can't be interrupted: a stop raises `asyncio.CancelledError` at the handler's next call of the context.
    """

    __slots__ = ()

    def persist(self) -> None:
        """Store the execution metadata as it stands now; raises as `Context.persist` does."""
        self._attempt.check_thread_not_stopped()
        self._wait_for(self._persist())

    def transaction(self) -> BlockingTransaction:
        """Open a transaction as `Context.transaction` does, with a sync psycopg connection."""
        self._attempt.check_thread_not_stopped()
        return BlockingTransaction(self._attempt, self._port, self._wait_for)

    def next_event(self) -> Any:
        """Return the job's oldest event that wasn't consumed yet, as `Context.next_event` does."""
        self._attempt.check_thread_not_stopped()
        return self._wait_for(self._next_event())

    def step(
        self,
        key: str,
        function: Callable[[*Ts], T],
        *arguments: *Ts,
        result: Any = None,
        retry: Retry | None = None,
    ) -> T:
        """Call the function and store what it returns with the checkpoint, as `Context.step` does, in this thread."""
        check = self._attempt.check_thread_not_stopped
        check()
        codec = result_codec(key, function, result)
        stored = self._wait_for(self._begin_step(key))
        if stored is not None:
            decoded: T = self._stored_result(key, codec, stored)
            return decoded
        value: T = call_step_blocking(key, function, arguments, retry, check)
        data = codec.encode(value, what=f"result of step {key!r}", limit=self._port.max_payload_bytes)
        self._wait_for(self._store_step(key, data))  # though it be stopped by now: the function has been called
        check()
        return value

    def sleep(self, duration: Duration, *, key: str | None = None) -> None:
        """Suspend the job for a while, and go on behind this line, as `Context.sleep` does."""
        self._attempt.check_thread_not_stopped()
        self._wait_for(self._sleep(duration, key))

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Show how far the job is, as `Context.progress` does."""
        self._attempt.check_thread_not_stopped()
        self._attempt.loop.call_soon_threadsafe(self._report, written(done, total, note))

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._attempt.loop).result()
