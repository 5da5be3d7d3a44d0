"""Which tables, indexes and statements serve the worker's exchange best: measured one beside another.

    python -m benchmarks.tables [GROUP …] [--jobs N] [--rounds N] [--out FILE]

A group's variants run in turn, then all again, so that what else the machine does hits all alike; medians are given,
and how each compares with the group's first. `bare` is what psycopg makes of the least possible queue.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.designs import BARE, NARROW_SESSION, Layout, design
from benchmarks.exchange import drain
from tests.support.cluster import TestRun, wheel_binaries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
        "arrays of nulls": replace(_BASE, collapse_nulls=False),
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
        "1 band, watermark": replace(_BASE, watermark=True),
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
_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "timezone": "UTC",
}


@contextmanager
def server() -> Iterator[str]:
    """Start a server with default durability, and give the DSN of a database in it."""
    run = TestRun.begin()
    try:
        cluster = run.new_cluster("bench", wheel_binaries(), _SETTINGS)
        yield cluster.socket_dsn(cluster.create_database("tables"))
    finally:
        run.end()


def measure(dsn: str, layouts: Mapping[str, Layout], jobs: int, rounds: int) -> dict[str, list[Drain]]:
    """Drain every layout, and the bare queue, `rounds` times in turn."""
    designs = {"bare": BARE} | {name: design(layout) for name, layout in layouts.items()}
    runs: dict[str, list[Drain]] = {name: [] for name in designs}
    for _ in range(rounds):
        for name, one in designs.items():
            runs[name].append(drain(dsn, one, jobs))
    return runs


def report(group: str, runs: Mapping[str, list[Drain]]) -> str:
    """Return a table in Markdown; the first variant after `bare` is what the others are compared with."""
    lines = [
        f"| {group} | jobs/s | of the first | of bare | (least, most) | server CPU µs a job | WAL bytes a job | skipped |",
        "|---|---|---|---|---|---|---|---|",
    ]
    medians = {name: _median(drains) for name, drains in runs.items()}
    first, bare = list(medians.values())[1], medians["bare"]
    for name, median in medians.items():
        speeds = [one.jobs_per_second for one in runs[name]]
        lines.append(
            f"| {name} | {median.jobs_per_second:,.0f} | {median.jobs_per_second / first.jobs_per_second:.2f} "
            f"| {median.jobs_per_second / bare.jobs_per_second:.2f} | {min(speeds):,.0f}, {max(speeds):,.0f} "
            f"| {median.server_us:.1f} | {median.wal_bytes:,.0f} | {median.misses:.1%} |"
        )
    return "\n".join(lines)


def _median(drains: list[Drain]) -> Drain:
    figures = [asdict(one) for one in drains]
    return type(drains[0])(**{key: statistics.median(one[key] for one in figures) for key in figures[0]})


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
