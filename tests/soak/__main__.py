"""The command line of the soak: `python -m tests.soak --hours 1 --seed 417`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.soak.run import InvariantBroken, Soak
from tests.support.cluster import TestRun, wheel_binaries
from tests.support.migrated import migrate_database
from tests.support.processes import Processes

_SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "2GB", "fsync": "off"}


def main() -> int:
    """Run it; 0: all has held, and stayed flat."""
    arguments = _arguments()
    seed = random.SystemRandom().randrange(1_000_000) if arguments.seed is None else arguments.seed
    # Gigabytes in a day: on the disk, and not in memory, where tests have their servers.
    os.environ.setdefault("TMPDIR", tempfile.gettempdir())
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it tells of each connection that a fault has ended
    run = TestRun.begin()
    _say(f"seed {seed}, {arguments.hours} h, into {arguments.into}")
    try:
        cluster = run.new_cluster("soak", wheel_binaries(), _SETTINGS)
        dsn = cluster.dsn(cluster.create_database())
        migrate_database(dsn)
        folder = Path(tempfile.mkdtemp(prefix="perdure-soak-"))
        return asyncio.run(_soak(dsn, folder, seed, arguments.hours * 3600, arguments.into))
    finally:
        run.end()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Workers under random faults, for hours.")
    parser.add_argument("--hours", type=float, default=24.0, help="how long; the last round is finished (24)")
    parser.add_argument("--seed", type=int, help="repeats what a run has drawn")
    parser.add_argument("--into", type=Path, default=Path("soak.jsonl"), help="takes samples and rounds (soak.jsonl)")
    return parser.parse_args()


async def _soak(dsn: str, folder: Path, seed: int, seconds: float, into: Path) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with Processes() as processes, into.open("ab") as output:
        soak = Soak(dsn, folder, processes, seed=seed, output=output, on_line=_say)
        try:
            verdict = await soak.run(seconds, stop)
        except InvariantBroken as error:
            _say(f"an invariant is broken (seed {seed}): {error}")
            return 1
    for name, (first, last) in verdict.medians.items():
        grown = "  GROWN" if name in verdict.grown else ""
        _say(f"{name:12} {first:15,.0f} {last:15,.0f}{grown}")
    _say(f"{verdict.jobs_an_hour:,.0f} jobs an hour; {'flat' if verdict.flat else 'not flat'}")
    return 0 if verdict.flat else 1


def _say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
