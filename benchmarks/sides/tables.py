"""Psycopg on tables of perdure's shape: what its statements cost when nothing is run, by `exchange` and `designs`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg

from benchmarks.designs import Layout, design
from benchmarks.exchange import LANES, WORKER, Floors, Lane
from benchmarks.sides.base import Side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.payloads import Order
    from benchmarks.probe import Probe

__all__ = ["Bench"]

_DESIGN = design(Layout(watermark="position"))
_EMPTY_SECONDS = 0.001


class Bench(Side):
    """Two connections a worker, each in a thread; a settle with its fence and a claim with its floors go together."""

    distributions = ("psycopg", "psycopg-binary")
    about = "bare psycopg on tables of perdure's shape, with fence and stored result, batches of 500; drain only"
    unfinished = "select exists (select from jobs)"
    finished = "select count(*) from finished_jobs where state = 6"

    async def setup(self) -> None:
        """Make the tables."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in _DESIGN.schema.split(";\n"):
                psycopg.ClientCursor(connection).execute(statement.encode(), {"worker": WORKER})

    async def start_many(self, payloads: Sequence[Order]) -> None:
        """Fill by one statement, with payloads that the server makes up."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(_DESIGN.fill.encode(), {"first": 1, "count": len(payloads)})

    def work(self, work: str, probe: Probe, loop: str) -> None:  # noqa: ARG002 - it does one thing, without a loop
        """Drain until SIGTERM, which ends it at once."""
        floors, telling = Floors(_DESIGN.watermark), threading.Lock()

        def drain() -> None:
            lane = Lane(self.dsn, _DESIGN, floors)
            held: list[tuple[object, ...]] = []
            while True:
                rows = lane.exchange(held)
                with telling:
                    for _ in rows:
                        probe.hit()
                held = lane.skipped + rows
                if not held:
                    idle.wait(_EMPTY_SECONDS)

        idle = threading.Event()
        lanes = [threading.Thread(target=drain, daemon=True) for _ in range(LANES)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
