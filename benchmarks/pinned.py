"""What a pinned snapshot does to a queue, and what a watermark does about it.

    python -m benchmarks.pinned [--seconds N]

Another connection holds a snapshot open while jobs are started and worked off as fast as the two lanes can: dead rows
can't be removed, and a claim that begins at the front of its index steps over ever more of them.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks.designs import Layout, design
from benchmarks.exchange import cpu_seconds, prepare
from benchmarks.server import server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.designs import Design, Tables, Watermark
    from benchmarks.exchange import Lane

_BACKLOG = 10_000
_CHUNK = 1_000
_WINDOW_SECONDS = 10.0
_TABLES: tuple[Tables, ...] = ("finished moved", "one table", "ready list")
_WATERMARKS: tuple[Watermark, ...] = ("", "second", "position")
VARIANTS = {
    f"{tables}, watermark: {watermark or 'none'}": Layout(tables=tables, watermark=watermark)
    for tables in _TABLES
    for watermark in _WATERMARKS
}


@dataclass(frozen=True, slots=True)
class Window:
    """Ten seconds of a flow: jobs a second, and CPU microseconds a job of the lanes' backends."""

    jobs_per_second: float
    server_us: float


class Flow:
    """A producer that keeps a backlog, and the lanes that work it off, until `stop`."""

    def __init__(self, dsn: str, design_: Design) -> None:
        """Fill and connect; nothing runs yet."""
        self.stop = threading.Event()
        self.settled = [0, 0]
        self._failures: list[BaseException] = []
        self._design = design_
        self._lanes = prepare(dsn, design_, _BACKLOG)
        self._producer = psycopg.connect(dsn, autocommit=True)
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in self._work()]

    def run(self, seconds: float) -> tuple[Window, Window]:
        """Return the first and the last ten seconds."""
        for thread in self._threads:
            thread.start()
        first = self._window()
        self.stop.wait(max(0.0, seconds - 2 * _WINDOW_SECONDS))
        last = self._window()
        self.stop.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]
        return first, last

    def _window(self) -> Window:
        backends = [lane.connection.info.backend_pid for lane in self._lanes]
        settled, cpu, began = sum(self.settled), cpu_seconds(backends), time.perf_counter()
        self.stop.wait(_WINDOW_SECONDS)
        jobs, took = max(1, sum(self.settled) - settled), time.perf_counter() - began
        return Window(jobs / took, 1e6 * (cpu_seconds(backends) - cpu) / jobs)

    def close(self) -> None:
        """Disconnect all."""
        for connection in (self._producer, *(lane.connection for lane in self._lanes)):
            connection.close()

    def _work(self) -> Iterator[Any]:
        yield self._produce
        for number, lane in enumerate(self._lanes):
            yield lambda number=number, lane=lane: self._consume(number, lane)

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self._failures.append(error)
            self.stop.set()

    def _produce(self) -> None:
        started = _BACKLOG
        while not self.stop.is_set():
            if started - sum(self.settled) >= _BACKLOG:
                time.sleep(0.001)
                continue
            self._producer.execute(self._design.fill, {"first": started + 1, "count": _CHUNK})
            started += _CHUNK

    def _consume(self, number: int, lane: Lane) -> None:
        held: list[tuple[Any, ...]] = []
        while not self.stop.is_set():
            rows = lane.exchange(held)
            self.settled[number] += len(held) - len(lane.skipped)
            held = lane.skipped + rows
            if not held:
                time.sleep(0.001)


def measure(dsn: str, layout: Layout, seconds: float, *, pinned: bool) -> tuple[Window, Window]:
    """Run one flow; return its first and its last ten seconds."""
    with ExitStack() as stack:
        flow = Flow(dsn, design(layout))
        stack.callback(flow.close)
        if pinned:
            pin = stack.enter_context(psycopg.connect(dsn))
            pin.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            pin.execute("select count(*) from pg_class")
        return flow.run(seconds)


def main() -> None:
    """Measure the variants, with and without the pin."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pinned", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLES", help=f"of {', '.join(_TABLES)}; all when none is named")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each flow, at least 20 (%(default)s)")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.tables) - set(_TABLES))
    if unknown:
        parser.error(f"no such tables: {', '.join(unknown)}; there are {', '.join(_TABLES)}")
    sys.stdout.write(
        "| | pinned | first 10 s: jobs/s | last 10 s | last of first | first 10 s: server CPU µs a job | last 10 s |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    with server() as dsn:
        for name, layout in VARIANTS.items():
            if arguments.tables and layout.tables not in arguments.tables:
                continue
            for pinned in (False, True):
                first, last = measure(dsn, layout, arguments.seconds, pinned=pinned)
                sys.stdout.write(
                    f"| {name} | {'yes' if pinned else 'no'} | {first.jobs_per_second:,.0f} "
                    f"| {last.jobs_per_second:,.0f} | {last.jobs_per_second / first.jobs_per_second:.2f} "
                    f"| {first.server_us:.1f} | {last.server_us:.1f} |\n"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
