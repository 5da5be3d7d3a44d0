"""perdure beside bare psycopg, in one run on one server: what `make bench` runs.

    python -m benchmarks [--rounds N] [--jobs N] [--loop asyncio|uvloop] [--out FILE]

Both sides take turns, so that what else the machine does hits both; ratios are the medians of the rounds' ratios.
Only ratios are worth comparing, and only those of a machine that is doing little else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.loops import LOOPS, loop_factory
from benchmarks.report import headline, table
from benchmarks.server import server
from benchmarks.works import SIDES, Works

if TYPE_CHECKING:
    from benchmarks.report import Rounds
    from benchmarks.works import Figures


async def measure(works: Works, rounds: int) -> Rounds:
    """Do all works on both sides, so many times; the side that begins changes from round to round."""
    measured: Rounds = {}
    for number in range(rounds):
        for work in ("drain 100", "drain 1000", "start", "latency", "persist", "transact"):
            _say(f"round {number + 1} of {rounds}: {work}")
            sides = SIDES if number % 2 == 0 else SIDES[::-1]
            for side, figures in (await _measure(works, work, sides)).items():
                measured.setdefault(work, {}).setdefault(side, []).append(figures)
    _say("")
    return measured


async def _measure(works: Works, work: str, sides: tuple[str, ...]) -> dict[str, Figures]:
    kind, _, concurrency = work.partition(" ")
    if kind == "start":
        return await works.start()
    if kind == "latency":
        return await works.latency()
    if kind == "drain":
        return {side: await works.drain(side, int(concurrency)) for side in sides}
    return {side: await works.steps(side, work) for side in sides}


def _say(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured (%(default)s)")
    parser.add_argument("--jobs", type=int, default=20_000, help="how many are drained (%(default)s)")
    parser.add_argument(
        "--loop", choices=LOOPS, default="asyncio", help="the event loop of all processes (%(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="append every round's figures, as lines of JSON")
    options = parser.parse_args()
    with server() as dsn:
        works = Works(dsn, jobs=options.jobs, loop=options.loop)
        head = headline(dsn, options.loop, options.rounds, options.jobs)
        with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
            measured = runner.run(measure(works, options.rounds))
    print(f"{head}\n\n{table(measured)}")
    if options.out:
        with options.out.open("a", encoding="utf-8") as file:
            for work, sides in measured.items():
                for side, runs in sides.items():
                    for number, figures in enumerate(runs):
                        line = {"work": work, "side": side, "round": number + 1, "loop": options.loop, **figures}
                        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
