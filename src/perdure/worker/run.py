"""Runs a worker until it is told to stop: signals, a database that is away, the exit code. For `perdure worker`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from perdure.cancelling import cancel_and_wait
from perdure.errors import DatabaseUnavailable
from perdure.version import __version__
from perdure.worker.borrowing import check
from perdure.worker.vitals import Vitals

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from perdure.app import App
    from perdure.worker.health import Address
    from perdure.worker.worker import Worker

__all__ = ["run_worker"]

_log = logging.getLogger("perdure.worker")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BACK_OFF_SECONDS = (0.2, 5.0)
_EXECUTOR_THREADS = "perdure to_thread"
_IDLE_THREADS_END_SECONDS = 0.3


class _Signals:
    """The first signal stops gracefully, a second one skips the grace."""

    def __init__(self, vitals: Vitals) -> None:
        self.stop = asyncio.Event()
        self._vitals = vitals
        self._worker: Worker | None = None

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._receive, number)

    def remove(self) -> None:
        """Let further signals do nothing: the process ends, and with exit code 0."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def watch(self, worker: Worker) -> None:
        self._worker = worker

    def _receive(self, number: int) -> None:
        if self.stop.is_set():
            _log.warning("%s again: stopping without further grace", signal.Signals(number).name)
            if self._worker is not None:
                self._worker.hurry()
            return
        self._vitals.stopping = True
        _log.info("%s: stopping; running jobs may end within the grace", signal.Signals(number).name)
        self.stop.set()


def run_worker(
    app: App,
    *,
    queues: Sequence[str] | None = None,
    concurrency: int | None = None,
    health: Address | None = None,
    on_ready: Callable[[], None],
    on_wait: Callable[[str], None],
) -> int:
    """Serve until SIGTERM or SIGINT, on an event loop of its own (uvloop's, where it is installed).

    Returns the exit code; but when a handler was left behind, which nothing can end, the process ends here.

    Args:
        app: Not open yet; it is opened, and closed at the end.
        queues: The queues to serve; all, if None.
        concurrency: Jobs at once; as configured, if None.
        health: Where to answer how the process is; nowhere, if None.
        on_ready: Called once the worker can claim.
        on_wait: Called with a line when the database is away before the worker could start.

    Raises:
        StoreError: The database is there, but its schema isn't one that this version can work on.
        MisuseError: One can't listen at the address.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        leaves_behind = runner.run(_run(app, queues, concurrency, health, on_ready, on_wait))
        if leaves_behind:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _run(
    app: App,
    queues: Sequence[str] | None,
    concurrency: int | None,
    health: Address | None,
    on_ready: Callable[[], None],
    on_wait: Callable[[str], None],
) -> bool:
    """Open, serve and close; True when a handler was left behind."""
    vitals = Vitals(max_stall_seconds=app.config.execution.max_stall.total_seconds())
    signals = _Signals(vitals)
    signals.install()
    _log.info("starting: perdure %s on %s", __version__, _database(app))
    executor = ThreadPoolExecutor(thread_name_prefix=_EXECUTOR_THREADS)
    asyncio.get_running_loop().set_default_executor(executor)  # of asyncio.to_thread
    try:
        async with vitals.shown(health):
            waiting = _Waiting(signals, vitals, on_wait)
            if not await waiting.until_done(app.open):
                _log.info("stopped before there was a database")
                return False
            try:
                worker = app.worker(queues=queues, concurrency=concurrency)
                if not await waiting.until_done(functools.partial(check, app)):
                    _log.info("stopped before there was a database")
                    return False
                signals.watch(worker)
                _tune_collector()
                await _serve(worker, signals, vitals, on_ready)
            finally:
                await app.close()
        _log.info("stopped")
        return worker.has_left_behind or await _has_busy_threads(executor)
    finally:
        signals.remove()


def _database(app: App) -> str:
    dsn = next(row for row in app.config.describe() if row.key == "dsn")
    return f"{dsn.value or 'the embedded PostgreSQL'}, schema {app.names.schema_name!r}"


async def _has_busy_threads(executor: ThreadPoolExecutor) -> bool:
    """Tell whether handlers have left calls in threads, for which the interpreter would wait at its end."""
    executor.shutdown(wait=False, cancel_futures=True)  # those that have nothing to do end now
    until_seconds = time.monotonic() + _IDLE_THREADS_END_SECONDS
    while any(thread.name.startswith(_EXECUTOR_THREADS) for thread in threading.enumerate()):
        if time.monotonic() > until_seconds:
            return True
        await asyncio.sleep(0.01)
    return False


def _tune_collector() -> None:
    """Keep the garbage collector from walking all that was imported, over and over: this process is ours."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _serve(worker: Worker, signals: _Signals, vitals: Vitals, on_ready: Callable[[], None]) -> None:
    worker.begin()
    vitals.worker = worker
    stop = asyncio.create_task(signals.stop.wait())
    ready = asyncio.create_task(worker.ready.wait())
    try:
        await asyncio.wait({stop, ready}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            on_ready()
        await stop
    finally:
        stop.cancel()
        ready.cancel()
        await worker.stop()


class _Waiting:
    """Waits for a database that isn't there yet, or goes away again before the worker could begin; says so once."""

    def __init__(self, signals: _Signals, vitals: Vitals, on_wait: Callable[[str], None]) -> None:
        self._stop = signals.stop
        self._vitals = vitals
        self._on_wait = on_wait
        self._said = False

    async def until_done(self, action: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Do something as soon as the database is there; False when told to stop before that."""
        delay_seconds, longest = _BACK_OFF_SECONDS
        while not self._stop.is_set():
            doing = asyncio.create_task(action())
            stop = asyncio.create_task(self._stop.wait())
            try:
                await asyncio.wait({doing, stop}, return_when=asyncio.FIRST_COMPLETED)
                if doing.done():
                    try:
                        doing.result()
                    except DatabaseUnavailable as error:
                        self._say(error)
                    else:
                        return True
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay_seconds * random.uniform(0.5, 1.5)):  # noqa: S311 - jitter
                        await asyncio.shield(stop)
            finally:
                stop.cancel()
                await cancel_and_wait([doing])
            delay_seconds = min(longest, delay_seconds * 2)
        return False

    def _say(self, error: DatabaseUnavailable) -> None:
        self._vitals.waits_for = f"{error}; waiting for it"
        if not self._said:
            self._on_wait(self._vitals.waits_for)
            self._said = True
