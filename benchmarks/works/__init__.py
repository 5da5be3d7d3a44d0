"""All that is measured, by name; each piece of work is in a module of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contenders import BARE, MANY, PEERS, PERDURE, PLAIN, TABLES
from benchmarks.works import checkpoints, draining, history, latency, pinned, starting, stopping, waking, weight
from benchmarks.works.base import Work, in_turn

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WORKS", "Work"]

_PEER = {peer.name: peer for peer in PEERS}
_STEPS = (PERDURE, PERDURE.having("perdure step", task="step"), BARE, _PEER["dbos"].having(times=20), _PEER["absurd"])

_ALL = (
    Work(
        "drain",
        "empty a full queue by one worker",
        in_turn(draining.drain),
        (PERDURE, PLAIN, MANY, BARE, TABLES, *PEERS),
    ),
    Work("drain2", "empty a full queue by two workers", in_turn(draining.drain_by_two), (PERDURE, MANY, BARE, *PEERS)),
    Work("start", "start jobs one by one", starting.start, (PERDURE, BARE, *PEERS), together=True),
    Work("start_many", "start many jobs", in_turn(starting.start_many), (PERDURE, BARE, *PEERS)),
    Work("latency", "start a job for an idle worker", in_turn(latency.latency_idle), (PERDURE, BARE, *PEERS)),
    Work(
        "load", "start jobs at half the rate of the drain", in_turn(latency.latency_under_load), (PERDURE, BARE, *PEERS)
    ),
    Work("idle", "be idle", latency.idle_cost, (PERDURE, BARE, *PEERS), together=True),
    Work("sleepy", "run handlers that sleep", in_turn(draining.sleepy), (PERDURE, MANY)),
    Work("checkpoints", "store checkpoints", in_turn(checkpoints.checkpoints), _STEPS),
    Work("transactions", "store a row and a checkpoint", in_turn(checkpoints.transactions), (PERDURE, BARE)),
    Work("events", "send events to waiting jobs", in_turn(waking.events), (PERDURE,)),
    Work("proceed", "proceed waiting jobs", in_turn(waking.proceed), (PERDURE,)),
    Work("resume", "suspend and go on at once", in_turn(waking.resume), (PERDURE,)),
    Work("retry", "raise and run again at once", in_turn(waking.retry), (PERDURE,)),
    Work("stop", "stop a worker with 1,000 jobs", in_turn(stopping.stop), (PERDURE,)),
    Work("recover", "kill a worker with 1,000 jobs", in_turn(stopping.recover), (PERDURE,)),
    Work("memory", "hold 1,000 and 10,000 jobs", in_turn(weight.memory), (PERDURE,)),
    Work("results", "wait for 10,000 results", in_turn(weight.results), (PERDURE,)),
    Work("big", "jobs of a mebibyte", in_turn(draining.big), (PERDURE, BARE)),
    Work(
        "history",
        "drain with a long past",
        in_turn(history.history),
        (MANY.having("empty", past=False), MANY.having("past", past=True)),
    ),
    Work(
        "pinned",
        "work while a snapshot is held",
        in_turn(pinned.pinned),
        (MANY, BARE, _PEER["pgqueuer"], _PEER["oban"]),
        most_rounds=1,
    ),
)
WORKS: Mapping[str, Work] = {work.name: work for work in _ALL}
