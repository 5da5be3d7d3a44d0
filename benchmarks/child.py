"""A process of one side: makes its tables, starts jobs as it is told, or works until SIGTERM.

    python -m benchmarks.child SIDE setup|produce|work …

Runs in that side's environment, which may know nothing of perdure. A producer reads calls from its standard input, and
a worker a line to begin with; both answer on standard output, in lines of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.payloads import big_note, order
from benchmarks.probe import Probe
from benchmarks.sides.base import LOOPS, load, loop_factory

if TYPE_CHECKING:
    from benchmarks.sides.base import Side

_TICK_SECONDS = 0.005


class Producer:
    """The calls that a producer answers; each returns seconds, or a rate."""

    def __init__(self, kind: type[Side]) -> None:
        """Produce for this side."""
        self._kind = kind
        self._side: Side
        self._started = 0

    async def facts(self) -> dict[str, Any]:
        """What is to be known of the side."""
        return self._kind.facts()

    async def open(self, dsn: str, settings: dict[str, Any]) -> None:
        """Connect to another database."""
        self._side = self._kind(dsn, settings)
        await self._side.open()

    async def close(self) -> None:
        """Disconnect."""
        await self._side.close()

    async def start(self, count: int) -> float:
        """Start jobs one by one, each awaited; how long it took."""
        payloads = [order(number) for number in range(count)]
        before = time.perf_counter()
        for payload in payloads:
            await self._side.start(payload, wake=False)
        return time.perf_counter() - before

    async def start_many(self, count: int, note_bytes: int = 0) -> float:
        """Start many; how long it took."""
        note = {"note": big_note(note_bytes)} if note_bytes else {}
        payloads = [order(number, **note) for number in range(count)]
        before = time.perf_counter()
        await self._side.start_many(payloads)
        return time.perf_counter() - before

    async def start_steps(self, jobs: int, times: int) -> None:
        """Start jobs of steps."""
        await self._side.start_steps(jobs, times)

    async def trickle(self, count: int, pause_seconds: float) -> None:
        """Start jobs for a worker that is idle, one after another."""
        for number in range(count):
            await asyncio.sleep(pause_seconds)
            await self._side.start(order(number, time.monotonic()), wake=True)

    async def feed(self, per_second: float, seconds: float) -> dict[str, float]:
        """Start jobs at a rate, a few at a time; say at which rate it really was."""
        tick_seconds = max(_TICK_SECONDS, 1 / per_second)
        began_seconds = time.monotonic()
        sent = 0
        while (passed_seconds := time.monotonic() - began_seconds) < seconds:
            due = int(per_second * (passed_seconds + tick_seconds)) - sent
            now_seconds = time.monotonic()
            await self._side.start_many([order(sent + number, now_seconds) for number in range(due)])
            sent += due
            next_seconds = (int(passed_seconds / tick_seconds) + 1) * tick_seconds + began_seconds
            await asyncio.sleep(max(0.0, next_seconds - time.monotonic()))
        return {"sent": sent, "per_second": sent / (time.monotonic() - began_seconds)}


async def _produce(kind: type[Side]) -> None:
    producer = Producer(kind)
    _say(loaded=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        call = json.loads(line)
        _say(answer=await getattr(producer, call.pop("call"))(**call))


def _say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Do what the role says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.child", description=__doc__)
    parser.add_argument("side")
    parser.add_argument("role", choices=("setup", "produce", "work"))
    parser.add_argument("--loop", choices=LOOPS, default="asyncio")
    parser.add_argument("--dsn")
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--work", default="jobs")
    parser.add_argument("--probe", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    kind = load(options.side)
    if options.role == "work":
        settings = {**kind.idle, **options.settings} if options.work == "idle" else options.settings
        probe = Probe(options.probe)
        _say(loaded=True)
        sys.stdin.readline()
        kind(options.dsn, settings).work(options.work, probe, options.loop)
        return
    with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
        runner.run(kind(options.dsn).setup() if options.role == "setup" else _produce(kind))


if __name__ == "__main__":
    main()
