"""A measured process: a worker of perdure or one of bare psycopg, until it is told to end.

    python -m benchmarks.worker SIDE WORK --dsn DSN --schema SCHEMA …

perdure's is what the command `perdure worker` runs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from benchmarks import bare
from benchmarks.loops import LOOPS, loop_factory
from benchmarks.recorder import Recorder
from benchmarks.tasks import Tasks
from perdure.worker.run import run_worker


def main() -> int:
    """Work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker", description=__doc__)
    parser.add_argument("side", choices=("perdure", "bare"))
    parser.add_argument("work", choices=("jobs", "lone jobs", "persist", "transact"))
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--schema", required=True)
    parser.add_argument("--loop", choices=LOOPS, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--latencies", type=int, default=0, help="how many are to be told")
    parser.add_argument("--jobs", type=int, default=0, help="for checkpoints: how many at once")
    parser.add_argument("--times", type=int, default=0, help="for checkpoints: how many of each job")
    options = parser.parse_args()
    recorder = Recorder(options.latencies)
    if options.side == "perdure":
        return _perdure(options, recorder)
    with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
        runner.run(_bare(options, recorder))
    return 0


def _perdure(options: argparse.Namespace, recorder: Recorder) -> int:
    if options.loop == "asyncio":
        sys.modules["uvloop"] = None  # type: ignore[assignment] # as if it weren't installed: then it isn't used
    tasks = Tasks(options.dsn, options.schema, recorder)
    return run_worker(tasks.app, concurrency=options.concurrency, on_ready=recorder.ready, on_wait=print)


async def _bare(options: argparse.Namespace, recorder: Recorder) -> None:
    if options.work == "persist":
        await bare.persist(options.dsn, recorder, jobs=options.jobs, times=options.times)
    elif options.work == "transact":
        await bare.transact(options.dsn, recorder, jobs=options.jobs, times=options.times)
    else:
        await bare.drain(options.dsn, recorder, lanes=1 if options.work == "lone jobs" else 2)


if __name__ == "__main__":
    sys.exit(main())
