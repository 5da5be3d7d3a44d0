"""Cancel, complete, retry, lapse, proceed, send, suspend, claim: two to four at once, in every order of their steps.

Each step is a statement or a commit on a connection of its own; where one waits for a lock, the others go on. After
each order the invariants must hold. Two are tried in all orders, on every push, too; more of them in so many orders,
which are drawn where there are more: all of three alone would take a night.
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest

from tests.support.races.actors import Log, make_actor
from tests.support.races.explorer import explore
from tests.support.races.judge import Wrong, judge
from tests.support.races.stage import Stage
from tests.support.tiers import TIER, seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.races.explorer import Actor, Order

ENDINGS = ("complete", "raise", "fail for good", "stop", "suspend")
RUNNING = (*ENDINGS, "cancel", "lapse", "proceed", "send", "retry")
CALLERS = (
    "proceed in read committed",
    "send in read committed",
    "proceed in repeatable read",
    "send in repeatable read",
)
WAITING = ("cancel", "claim", "proceed", "send", *CALLERS)
ENDED = ("retry", "claim", "cancel", "proceed", "send")


def _groups(kinds: Sequence[str], size: int, *, most_ends: int = 1) -> list[tuple[str, ...]]:
    """All groups; an attempt ends but once, except where its end is sent twice, or two are tried on each other."""
    groups = itertools.combinations_with_replacement(kinds, size)
    return [group for group in groups if sum(kind in ENDINGS for kind in group) <= most_ends]


RACES: list[tuple[str, tuple[str, ...]]] = [
    *(("running", group) for group in _groups(RUNNING, 2, most_ends=2)),
    *(("running", ("suspend", *group)) for group in _groups(CALLERS, 1)),
    *(("suspended", group) for group in _groups(WAITING, 2)),
    *(("due", group) for group in _groups(WAITING, 2) if "claim" in group),
    *(("ended", group) for group in _groups(ENDED, 2) if "retry" in group),
]
LARGER: list[tuple[str, tuple[str, ...]]] = [
    *(("running", group) for group in _groups(RUNNING, 3)),
    *(("running", ("suspend", *group)) for group in _groups((*CALLERS, "cancel", "lapse", "proceed", "send"), 2)),
    *(("suspended", group) for group in _groups(WAITING, 3)),
    *(("due", ("claim", *group)) for group in _groups(WAITING, 2)),
]
LARGEST: list[tuple[str, tuple[str, ...]]] = [
    ("running", ("suspend", *group)) for group in _groups(("cancel", "lapse", "proceed", "send", *CALLERS[:2]), 3)
]

TAKEN_BACK: list[tuple[str, tuple[str, ...]]] = [
    ("running", (ending, "cancel", "lapse", "retry once ended", *claim))
    for ending in ENDINGS
    for claim in ((), ("claim",))
]


async def run_race(stage: Stage, scene: str, kinds: Sequence[str], limit: int | None, seed: int = 0) -> int:
    """Try a race; returns in how many orders."""
    log = Log()

    async def make() -> Sequence[Actor]:
        nonlocal log
        log = Log()
        await stage.set_scene(scene)
        return [make_actor(stage, kind, place, log) for place, kind in enumerate(kinds)]

    async def look(order: Order) -> None:
        await judge(stage, scene, log, order)

    try:
        return await explore(stage, make, look, limit=limit, chance=random.Random(seed))
    except BaseException as error:
        error.add_note(f"in the race of {', '.join(kinds)}; scene: {scene}; seed {seed}")
        raise


async def _run_all(dsn: str, races: Sequence[tuple[str, tuple[str, ...]]], limit: int | None, seed: int = 0) -> int:
    tried = 0
    async with Stage(dsn, 8) as stage:
        for scene, kinds in races:
            tried += await run_race(stage, scene, kinds, limit, seed)
    return tried


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(4))
async def test_two_at_once_in_every_order(
    race_dsn: str, part: int, record_property: Callable[[str, object], None]
) -> None:
    tried = await _run_all(race_dsn, RACES[part::4], None)
    record_property("orders", tried)
    assert tried > len(RACES[part::4])


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", seeds("test_three_at_once", push=1, nightly=1))
@pytest.mark.parametrize("part", range(1 if TIER == "push" else 16))
async def test_three_at_once(
    race_dsn: str, part: int, seed: int, record_property: Callable[[str, object], None]
) -> None:
    races = random.Random(seed).sample(LARGER, 25) if TIER == "push" else LARGER[part::16]
    tried = await _run_all(race_dsn, races, 9 if TIER == "push" else 100, seed)
    record_property("orders", tried)
    assert tried > len(races)


@pytest.mark.skipif(TIER == "push", reason="thousands of orders each: make faults")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", seeds("test_four_at_once", push=1, nightly=1))
async def test_four_at_once(race_dsn: str, seed: int, record_property: Callable[[str, object], None]) -> None:
    record_property("orders", await _run_all(race_dsn, LARGEST, 150, seed))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", seeds("test_what_is_taken_back", push=1, nightly=1))
async def test_what_an_operator_takes_back_while_the_rest_is_under_way(
    race_dsn: str, seed: int, record_property: Callable[[str, object], None]
) -> None:
    races = random.Random(seed).sample(TAKEN_BACK, 2) if TIER == "push" else TAKEN_BACK
    tried = await _run_all(race_dsn, races, 20 if TIER == "push" else 600, seed)
    record_property("orders", tried)
    assert tried > len(races)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", seeds("test_eight_proceeds_at_once", push=1, nightly=20))
async def test_eight_proceeds_at_once(race_dsn: str, seed: int, record_property: Callable[[str, object], None]) -> None:
    tried = 0
    async with Stage(race_dsn, 9) as stage:
        tried += await run_race(stage, "suspended", ["proceed"] * 8, None)
        tried += await run_race(stage, "running", ["suspend", *["proceed"] * 8], 60 if TIER == "push" else None, seed)
        kinds = [*["proceed in read committed"] * 4, *["proceed in repeatable read"] * 4]
        tried += await run_race(stage, "suspended", kinds, 15 if TIER == "push" else 100, seed)
    record_property("orders", tried)


# --- the races themselves are tested: without what keeps them right, they go wrong


def _without(stage: Stage, statement: str, condition: str, instead: str) -> None:
    text = stage.names.statements[statement].decode()
    assert condition in text
    stage.names = type(stage.names)(stage.names.schema_name)
    stage.names.statements._texts[statement] = text.replace(condition, instead).encode()


_COMPLETED = ("running", ("complete", "retry"))
_TWO_PROCEEDS = ("suspended", ("proceed", "proceed"))
_INSERT = """(id, state, scheduled_at, created_at, started_at, claim, attempt, checkpoint, claim_checkpoint,
        priority, queue, task, metadata, execution_metadata, progress, version)
    select id,"""


@pytest.mark.parametrize(
    ("statement", "condition", "instead", "scene", "race"),
    [
        (
            "release",
            "order by id for update skip locked",
            "order by id for no key update skip locked",
            "running",
            ("suspend", "send in read committed"),
        ),
        ("release", "and not cancel_requested", "", "running", ("suspend", "cancel")),
        ("release", "proceed_requested\n            and", "false and", "running", ("suspend", "proceed")),
        ("finish", "and not (cancel_requested and", "and not (false and", "running", ("fail for good", "cancel")),
        ("wake_unread", "not events.woke or", "", "running", ("suspend", "send")),
        ("cancel", "and state in (0, 1, 3, 4, 5)", "", "running", ("complete", "cancel")),
        ("lapsed_jobs", "for update skip locked", "", "running", ("lapse", "complete")),
        ("proceed", "found.state = 5 and found.scheduled_at > due.due_at", "found.state = 5", *_TWO_PROCEEDS),
        ("proceed", "found.state = 4 and not found.asleep", "false", *_TWO_PROCEEDS),
        ("retry", "select id, 0, clock_timestamp(), created_at", "select id, 0, null, created_at", *_COMPLETED),
        ("retry", "attempt,\n        checkpoint +", "attempt,\n        checkpoint - 1 +", *_COMPLETED),
        ("retry", "select id, attempt, worker_id", "select id, attempt + 1, worker_id", *_COMPLETED),
        ("retry", "finished_at, state + 1,", "finished_at, state + 2,", *_COMPLETED),
        ("retry", "checkpoint, claim_checkpoint,", "checkpoint, lapses,", *_COMPLETED),
        (
            "retry",
            _INSERT,
            _INSERT.replace("(id", "(cancel_requested, id").replace("select id", "select true, id"),
            *_COMPLETED,
        ),
        ("request_cancel", "and state = 2", "and state in (0, 2)", "ended", ("retry", "cancel")),
        ("cancel", "checkpoint, 8, priority", "checkpoint, 7, priority", "ended", ("retry", "cancel")),
    ],
)
async def test_a_race_goes_wrong_without_its_guard(
    race_dsn: str, statement: str, condition: str, instead: str, scene: str, race: tuple[str, ...]
) -> None:
    async with Stage(race_dsn, 3) as stage:
        _without(stage, statement, condition, instead)
        with pytest.raises(Wrong):
            await run_race(stage, scene, race, None)
