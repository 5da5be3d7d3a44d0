"""What many ask of single jobs at once becomes few statements."""

from __future__ import annotations

import asyncio

import pytest

from perdure.errors import MisuseError
from perdure.gathering import Gathered


async def test_what_is_asked_while_a_statement_is_under_way_shares_the_next() -> None:
    asked: list[list[int]] = []
    begun, gate = asyncio.Event(), asyncio.Event()

    async def ask(ids: list[int]) -> dict[int, str]:
        asked.append(ids)
        begun.set()
        await gate.wait()
        return {job_id: f"job {job_id}" for job_id in ids if job_id != 3}

    gathered = Gathered(ask)
    first = asyncio.create_task(gathered.of(9))
    await begun.wait()
    others = [asyncio.create_task(gathered.of(job_id)) for job_id in (9, 3, 1, 3)]
    await asyncio.sleep(0)
    gate.set()
    assert await first == "job 9"
    # The first statement may have looked before the second question came: so that asks anew.
    assert await asyncio.gather(*others) == ["job 9", None, "job 1", None]
    assert asked == [[9], [1, 3, 9]]


async def test_so_many_at_a_time() -> None:
    lengths: list[int] = []

    async def ask(ids: list[int]) -> dict[int, int]:
        lengths.append(len(ids))
        return {job_id: job_id for job_id in ids}

    gathered = Gathered(ask)
    assert await asyncio.gather(*map(gathered.of, range(250))) == list(range(250))
    assert lengths == [100, 100, 50]


async def test_an_error_is_told_to_those_who_asked_then_and_to_nobody_later() -> None:
    fails = True

    async def ask(ids: list[int]) -> dict[int, int]:
        if fails:
            message = "away"
            raise ConnectionError(message)
        return {job_id: job_id for job_id in ids}

    gathered = Gathered(ask)
    outcomes = await asyncio.gather(gathered.of(1), gathered.of(2), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["away", "away"]
    fails = False
    assert await gathered.of(1) == 1


async def test_who_gives_up_takes_the_answer_from_nobody_else() -> None:
    gate = asyncio.Event()

    async def ask(ids: list[int]) -> dict[int, int]:
        await gate.wait()
        return {job_id: job_id for job_id in ids}

    gathered = Gathered(ask)
    impatient, patient = asyncio.create_task(gathered.of(1)), asyncio.create_task(gathered.of(1))
    await asyncio.sleep(0)
    impatient.cancel()
    gate.set()
    assert await patient == 1
    assert impatient.cancelled()


async def test_a_stop_tells_all_who_wait() -> None:
    async def ask(ids: list[int]) -> dict[int, int]:
        await asyncio.Event().wait()
        return {}

    gathered = Gathered(ask)
    waiting = [asyncio.create_task(gathered.of(job_id)) for job_id in range(150)]
    await asyncio.sleep(0)
    await gathered.stop()
    for task in waiting:
        with pytest.raises(MisuseError, match="the app was closed"):
            await task


async def test_a_stop_tells_who_asks_anew_for_what_is_being_asked() -> None:
    begun = asyncio.Event()

    async def ask(ids: list[int]) -> dict[int, int]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    gathered = Gathered(ask)
    first = asyncio.create_task(gathered.of(1))
    await begun.wait()
    second = asyncio.create_task(gathered.of(1))
    await asyncio.sleep(0)
    await gathered.stop()
    for task in (first, second):
        with pytest.raises(MisuseError, match="the app was closed"):
            await task
