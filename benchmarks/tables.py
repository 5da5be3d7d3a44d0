"""Which tables, indexes and statements serve the worker's exchange best: measured one beside another.

    python -m benchmarks.tables [GROUP …] [--jobs N] [--rounds N] [--out FILE]

A group's variants run in turn, then all again, so that what else the machine does hits all alike; medians are given,
and how each compares with the group's first. `bare` is what psycopg makes of the least possible queue.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.designs import BARE, NARROW_SESSION, Layout, design
from benchmarks.exchange import drain
from benchmarks.server import server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.exchange import Drain

_BASE = Layout()
_CUSTOM = ("set plan_cache_mode = force_custom_plan",)
GROUPS: Mapping[str, Mapping[str, Layout]] = {
    "designs": {
        "(c) finished moved": _BASE,
        "(a) one table": replace(_BASE, tables="one table"),
        "(d) ready list": replace(_BASE, tables="ready list"),
        "(d) without rescue": replace(_BASE, tables="ready list, no rescue"),
    },
    "settle": {
        "skips locked rows": _BASE,
        "waits for locked rows": replace(_BASE, skip_locked=False),
        "and a history row": replace(_BASE, history=True),
        "no index for rescues": replace(_BASE, rescue_index=False),
        'guard "worker_id ="': replace(_BASE, plain_guard=True),
    },
    "lookup": {
        "array": _BASE,
        "arrays of nulls, too": replace(_BASE, collapse_nulls=False),
        "one text, cut by offsets": replace(_BASE, lookup="blob"),
        "join (lane's settings without hash joins off)": replace(_BASE, lookup="join", session=NARROW_SESSION),
    },
    "payload": {
        "jsonb": _BASE,
        "json": replace(_BASE, payload="json"),
        "bytea": replace(_BASE, payload="bytea"),
    },
    "indexes": {
        "primary key only": _BASE,
        "and (finished_at)": replace(_BASE, finished_index="finished_at"),
        "and (state, id) of the unhappy": replace(_BASE, finished_index="unhappy"),
    },
    "claim": {
        "one band by name": replace(_BASE, bands=0),
        "1 band of a table": _BASE,
        "20 bands": replace(_BASE, bands=20),
        "1 band, watermark": replace(_BASE, watermark="position"),
    },
    "plans": {
        "the lane's settings": _BASE,
        "generic plans": replace(_BASE, session=NARROW_SESSION),
        "custom plans": replace(_BASE, session=_CUSTOM),
        "no settings": replace(_BASE, session=()),
    },
    "fresh": {
        "the lane's settings": replace(_BASE, fresh=True),
        "generic plans": replace(_BASE, fresh=True, session=NARROW_SESSION),
        "custom plans": replace(_BASE, fresh=True, session=_CUSTOM),
        "no settings": replace(_BASE, fresh=True, session=()),
    },
}


def measure(dsn: str, layouts: Mapping[str, Layout], jobs: int, rounds: int) -> dict[str, list[Drain]]:
    """Drain every layout, and the bare queue, `rounds` times in turn."""
    designs = {"bare": BARE} | {name: design(layout) for name, layout in layouts.items()}
    runs: dict[str, list[Drain]] = {name: [] for name in designs}
    for _ in range(rounds):
        for name, one in designs.items():
            runs[name].append(drain(dsn, one, jobs))
    return runs


def report(group: str, runs: Mapping[str, list[Drain]]) -> str:
    """Return a table in Markdown; others are compared with `bare` and with the variant after it, round by round."""
    lines = [
        f"| {group} | jobs/s | of the first | of bare | best | CPU µs a job: median, least | WAL bytes | skipped |",
        "|---|---|---|---|---|---|---|---|",
    ]
    bare, first, *_ = (_figures(drains, "jobs_per_second") for drains in runs.values())
    for name, drains in runs.items():
        speeds, cpu = _figures(drains, "jobs_per_second"), _figures(drains, "server_us")
        lines.append(
            f"| {name} | {median(speeds):,.0f} | {_ratio(speeds, first):.2f} | {_ratio(speeds, bare):.2f} "
            f"| {max(speeds):,.0f} | {median(cpu):.1f}, {min(cpu):.1f} "
            f"| {median(_figures(drains, 'wal_bytes')):,.0f} | {median(_figures(drains, 'misses')):.1%} |"
        )
    return "\n".join(lines)


def _figures(drains: list[Drain], name: str) -> list[float]:
    return [getattr(one, name) for one in drains]


def _ratio(speeds: list[float], others: list[float]) -> float:
    """Return the median of the rounds' ratios: what slowed one round slowed both."""
    return median(one / other for one, other in zip(speeds, others, strict=True))


def main() -> None:
    """Measure the groups asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; all when none is named")
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs a drain (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="drains of each variant (%(default)s)")
    parser.add_argument("--out", type=Path, help="append every drain to this file, one JSON object a line")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.groups) - set(GROUPS))
    if unknown:
        parser.error(f"no such group: {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    with server() as dsn:
        for group in arguments.groups or GROUPS:
            runs = measure(dsn, GROUPS[group], arguments.jobs, arguments.rounds)
            sys.stdout.write(f"{report(group, runs)}\n\n")
            sys.stdout.flush()
            if arguments.out:
                with arguments.out.open("a", encoding="utf-8") as file:
                    for name, drains in runs.items():
                        file.writelines(
                            json.dumps({"group": group, "variant": name, **asdict(one)}) + "\n" for one in drains
                        )


if __name__ == "__main__":
    main()
