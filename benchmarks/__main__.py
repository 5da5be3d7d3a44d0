"""perdure beside bare psycopg and beside its peers, in one run on one server: what `make bench` runs.

    python -m benchmarks [--works drain,start] [--rounds 3] [--scale 0.1] …

The contenders take turns, so that what else the machine does hits all; who begins changes from round to round. Only
ratios are worth comparing, and only those of one run, on a machine that is doing little else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from benchmarks.bench import Bench
from benchmarks.contenders import missing
from benchmarks.machine import describe
from benchmarks.report import read, tables
from benchmarks.server import cluster
from benchmarks.sides.base import LOOPS, loop_factory
from benchmarks.works import WORKS

if TYPE_CHECKING:
    from collections.abc import Container

    from benchmarks.contenders import Contender
    from benchmarks.works import Work

_RESULTS = Path("benchmarks/results")


async def measure(bench: Bench, works: dict[Work, list[Contender]], rounds: int, out: TextIO) -> int:
    """Do all works, so many times; return how often one has failed."""
    failed = 0
    for number in range(rounds):
        for work, contenders in works.items():
            if work.most_rounds is not None and number >= work.most_rounds:
                continue
            turn = number % len(contenders)
            before = time.perf_counter()
            for group in _groups(work, contenders[turn:] + contenders[:turn]):
                failed += not await _measure(bench, work, group, number + 1, out)
            _say(f"round {number + 1} of {rounds}: {work.name} ({work.about}): {time.perf_counter() - before:.0f} s")

    return failed


async def _measure(bench: Bench, work: Work, contenders: list[Contender], number: int, out: TextIO) -> bool:
    """Do a work; write its figures as soon as they are there, or why there are none."""
    try:
        measured = await work.measure(bench, contenders)
    except Exception as error:  # noqa: BLE001 - whatever it was: it is told, and all others are measured
        names, text = ", ".join(one.name for one in contenders), _told(error)
        _say(f"FAILED: {work.name}, {names}: {text}")
        _write(out, work=work.name, contender=names, round=number, error=text)
        return False
    for name, figures in measured.items():
        bench.measured.setdefault(work.name, {}).setdefault(name, []).append(figures)
        _write(out, work=work.name, contender=name, round=number, figures=figures)
    return True


def _told(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):  # of a group, the first says enough
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _groups(work: Work, contenders: list[Contender]) -> list[list[Contender]]:
    return [contenders] if work.together else [[one] for one in contenders]


async def run(options: argparse.Namespace, out: TextIO) -> int:
    """Measure on a server that is ours; return how often something has failed."""
    left_out = missing(options.peers)
    with cluster() as one:
        scales = {"scale": options.scale, "history_scale": options.history_scale}
        async with Bench(one, peers=options.peers, loop=options.loop, **scales) as bench:
            works = _works_to_do(options, left_out)
            sides = {one.side for contenders in works.values() for one in contenders}
            settings = {key: getattr(options, key) for key in ("works", "rounds", "scale", "history_scale", "loop")}
            facts = {side: await bench.facts(side) for side in sorted(sides)}
            _write(out, **describe(bench.server), settings=settings, sides=facts, left_out=left_out)
            for reason in sorted(set(left_out.values())):
                _say(f"left out: {', '.join(name for name in left_out if left_out[name] == reason)}: {reason}")
            return await measure(bench, works, options.rounds, out)


def _works_to_do(options: argparse.Namespace, left_out: Container[str]) -> dict[Work, list[Contender]]:
    """Return what is to be done by whom."""
    works = {}
    for work in (WORKS[name] for name in options.works):
        there = [one for one in work.contenders if one.side not in left_out]
        works[work] = [one for one in there if not options.contenders or one.name in options.contenders]
    return {work: contenders for work, contenders in works.items() if contenders}


def _write(out: TextIO, **line: object) -> None:
    out.write(json.dumps(line) + "\n")
    out.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _names(text: str) -> list[str]:
    return text.split(",")


def _works(text: str) -> list[str]:
    names = list(WORKS) if text == "all" else _names(text)
    if unknown := [name for name in names if name not in WORKS]:
        message = f"no such work: {', '.join(unknown)}; there are {', '.join(WORKS)}"
        raise argparse.ArgumentTypeError(message)
    return names


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--works", type=_works, default="all", help=f"some of {', '.join(WORKS)} (%(default)s)")
    parser.add_argument("--contenders", type=_names, metavar="NAMES", help="only these, as results call them")
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="what part of the full sizes (%(default)s)")
    parser.add_argument(
        "--history-scale", type=float, default=0.1, help="what part of 10 M finished and 5 M waiting jobs (%(default)s)"
    )
    parser.add_argument("--loop", choices=LOOPS, default="uvloop", help="the event loop, but where said (%(default)s)")
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), help="the peers' environment (%(default)s)")
    name = f"{datetime.now(UTC):%Y-%m-%d-%H%M}.jsonl"
    parser.add_argument("--out", type=Path, default=_RESULTS / name, help="where lines of JSON go (%(default)s)")
    return parser.parse_args()


def main() -> int:
    """Measure, and print tables; 1 if something has failed."""
    options = _options()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with (
        options.out.open("w", encoding="utf-8") as out,
        asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner,
    ):
        failed = runner.run(run(options, out))
    print(tables(read(options.out)))
    print(f"\nThe figures are in {options.out}.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
