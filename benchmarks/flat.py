"""Does it stay as it is? Jobs at an even rate for a long time, and what each part of that time looked like.

    python -m benchmarks.flat [--minutes 30] [--per-second 5000] [--pinned] [--out FILE]

A producer starts jobs at the rate, a worker runs them; with `--pinned` another connection holds a snapshot all the
while, so that dead rows can't be removed. The last fifth is compared with the first: the very first seconds, in which
connections are made and tables are new, are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, TextIO

import psutil
import psycopg

from benchmarks.bench import Bench, waits
from benchmarks.contenders import MANY
from benchmarks.machine import describe
from benchmarks.server import cluster
from benchmarks.sides.base import loop_factory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.bench import Figures
    from benchmarks.process import Workers
    from benchmarks.server import Database

__all__ = ["flat"]

_PARTS = 25
_LEFT_OUT_SECONDS = 5.0
_MIB = 1 << 20
_LIVE_TABLES = "('background_tasks.jobs'), ('background_tasks.workers'), ('background_tasks.bands')"
_TABLES_BYTES = f"select sum(pg_table_size(name::regclass)) from (values {_LIVE_TABLES}) as live (name)"
_INDEXES_BYTES = f"select sum(pg_indexes_size(name::regclass)) from (values {_LIVE_TABLES}) as live (name)"
_FINISHED_BYTES = "select pg_total_relation_size('background_tasks.finished_jobs')"


class _Meter:
    """Reads what has been used so far."""

    def __init__(self, bench: Bench, workers: Workers, database: Database) -> None:
        self._bench = bench
        self._workers = workers
        self._database = database
        self._process = psutil.Process(workers.all[0].process.pid)

    async def read(self) -> Figures:
        database, workers, memory = self._database, self._workers, self._process.memory_info()
        return {
            "at_seconds": time.monotonic(),
            "begun": workers.count,
            "worker_seconds": workers.cpu_seconds(),
            "server_seconds": self._bench.server.cpu_seconds(),
            "tables_mib": float(await database.value(_TABLES_BYTES)) / _MIB,
            "indexes_mib": float(await database.value(_INDEXES_BYTES)) / _MIB,
            "finished_mib": float(await database.value(_FINISHED_BYTES)) / _MIB,
            "worker_mib": (memory.rss - memory.shared) / _MIB,  # without the probe, whose pages are a file's
        }


async def flat(bench: Bench, *, per_second: float, seconds: float, pinned: bool, out: TextIO) -> list[Figures]:
    """Feed a worker for so long; return the figures of each part, in their order."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(bench.database(MANY.side))
        slots = int(per_second * (seconds + _LEFT_OUT_SECONDS) * 1.2) + 1000
        workers = await stack.enter_async_context(bench.workers(MANY, database, slots=slots))
        producer = await stack.enter_async_context(bench.producer(MANY, database))
        if pinned:
            pin = await stack.enter_async_context(await psycopg.AsyncConnection.connect(database.dsn))
            await pin.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await pin.execute("select count(*) from pg_class")
        await workers.go()
        await producer.call("trickle", count=1, pause_seconds=0.0)
        await workers.reach(1)
        feed_seconds = seconds + _LEFT_OUT_SECONDS
        feeding = asyncio.create_task(
            producer.call("feed", takes_seconds=feed_seconds, per_second=per_second, seconds=feed_seconds)
        )
        await asyncio.sleep(_LEFT_OUT_SECONDS)
        parts = await _watch(_Meter(bench, workers, database), workers, seconds, out)
        fed = await feeding
        await workers.reach(1 + fed["sent"])
    return parts


async def _watch(meter: _Meter, workers: Workers, seconds: float, out: TextIO) -> list[Figures]:
    parts: list[Figures] = []
    before, began_seconds = await meter.read(), time.monotonic()
    for number in range(1, _PARTS + 1):
        await asyncio.sleep(max(0.0, began_seconds + number * seconds / _PARTS - time.monotonic()))
        now = await meter.read()
        jobs = max(1.0, now["begun"] - before["begun"])
        part = {
            "part": number,
            "jobs_per_second": jobs / (now["at_seconds"] - before["at_seconds"]),
            **waits(workers.all[0].probe.waits_seconds()[int(before["begun"]) : int(now["begun"])]),
            "worker_us": (now["worker_seconds"] - before["worker_seconds"]) * 1e6 / jobs,
            "server_us": (now["server_seconds"] - before["server_seconds"]) * 1e6 / jobs,
            "load": psutil.getloadavg()[0],
            **{name: now[name] for name in ("tables_mib", "indexes_mib", "finished_mib", "worker_mib")},
        }
        parts.append(part)
        out.write(json.dumps(part) + "\n")
        out.flush()
        before = now
    return parts


def table(parts: Sequence[Figures]) -> str:
    """Return the medians of the first and of the last fifth, and how they compare."""
    fifth = max(1, len(parts) // 5)
    lines = ["| | first fifth | last fifth | ratio |", "|---|---|---|---|"]
    for name, label in _LABELS.items():
        first, last = (median(part[name] for part in some) for some in (parts[:fifth], parts[-fifth:]))
        lines.append(f"| {label} | {first:,.2f} | {last:,.2f} | {last / first if first else 1:.2f} |")
    return "\n".join(lines)


_LABELS = {
    "jobs_per_second": "jobs/s",
    "p50_ms": "latency p50: ms",
    "p99_ms": "latency p99: ms",
    "worker_us": "worker's CPU: µs a job",
    "server_us": "server's CPU: µs a job",
    "tables_mib": "live tables: MiB",
    "indexes_mib": "their indexes: MiB",
    "worker_mib": "worker's memory: MiB",
    "load": "the machine's load",
}


async def _run(options: argparse.Namespace, out: TextIO) -> list[Figures]:
    with cluster() as one:
        async with Bench(one, peers=Path(), loop="uvloop", scale=1.0, history_scale=0.1) as bench:
            settings = {"minutes": options.minutes, "per_second": options.per_second, "pinned": options.pinned}
            out.write(json.dumps({**describe(bench.server), "settings": settings}) + "\n")
            seconds = options.minutes * 60
            return await flat(bench, per_second=options.per_second, seconds=seconds, pinned=options.pinned, out=out)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flat", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="for how long (%(default)s)")
    parser.add_argument("--per-second", type=float, default=5000.0, help="jobs a second (%(default)s)")
    parser.add_argument("--pinned", action="store_true", help="hold a snapshot all the while")
    parser.add_argument("--out", type=Path, required=True, help="where lines of JSON go")
    options = parser.parse_args()
    with (
        options.out.open("w", encoding="utf-8") as out,
        asyncio.Runner(loop_factory=loop_factory("uvloop")) as runner,
    ):
        parts = runner.run(_run(options, out))
    sys.stdout.write(table(parts) + "\n")


if __name__ == "__main__":
    main()
