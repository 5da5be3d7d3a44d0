"""Fault 14: payloads at the limit and past it, nested too deeply, with what no text in a database can hold.

Over it the caller is told, or the attempt fails; its neighbours don't feel it (I12), and nothing is half stored (I2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from perdure import App, Context, Failed, JobState, Raised, Sent
from perdure.errors import PayloadRefused, PayloadTooLarge
from tests.support.jobs import job_until
from tests.support.tiers import TIER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.malformed import Spoiler

_LIMIT = 10_000
pytestmark = pytest.mark.timeout(240)


@dataclass
class Progress:
    text: str = ""
    nested: list[Any] = field(default_factory=list)


@pytest_asyncio.fixture
async def limited(every_migrated_database: str) -> AsyncIterator[App]:
    """An app whose payloads may be small only, with a task that makes what its metadata says of what it says."""
    app = App(
        every_migrated_database,
        scheduling={"scheduler_retry_count": 0, "polling_delay": 0.2},
        execution={"max_payload_bytes": _LIMIT},
    )

    @app.task("makes", events=str)
    async def makes(ctx: Context[tuple[str, int], Progress]) -> str | Failed[str]:
        kind, size = ctx.metadata
        text = "x" * (size - len('""'))
        match kind:
            case "error":
                return Failed(text)
            case "persist":
                empty = len('{"text":"","nested":[]}')
                ctx.execution_metadata.text = "x" * (size - empty)
                await ctx.persist()
            case _:
                return text
        return "done"

    @app.task("keeps")
    async def keeps(ctx: Context[Any, None]) -> Any:
        return ctx.metadata

    async with app:
        yield app


@pytest.mark.parametrize("kind", ["result", "error", "persist"])
async def test_what_a_handler_makes_fits_to_the_byte(limited: App, kind: str) -> None:
    task = limited.tasks["makes"]
    jobs = await task.start_many([(kind, _LIMIT + more) for more in (-1, 0, 1)])
    async with limited.worker():
        for job in jobs:
            await job_until(job, lambda job: job.state.is_final)
    fits = JobState.FAILED if kind == "error" else JobState.COMPLETED
    assert [job.state for job in jobs] == [fits, fits, JobState.FAILED]
    assert [isinstance(job.error, Raised) for job in jobs] == [False, False, True]
    error = jobs[2].error
    assert isinstance(error, Raised)
    assert error.type == "perdure.errors.PayloadTooLarge"
    assert f"{_LIMIT + 1:,} bytes of JSON; allowed are {_LIMIT:,} (execution.max_payload_bytes)" in error.message


async def test_what_a_caller_gives_fits_to_the_byte(limited: App) -> None:
    keeps, makes = limited.tasks["keeps"], limited.tasks["makes"]
    target = await makes.start(("result", 10))
    for size in (_LIMIT - 1, _LIMIT):
        text = "x" * (size - 2)
        assert (await (await keeps.start(text)).refresh()).metadata == text
        assert await makes.send(target.id, text) == Sent(target.id)
    before = [job.id async for job in limited.jobs()]
    too_large = "x" * (_LIMIT - 1)
    with pytest.raises(PayloadTooLarge, match=r"metadata of keeps: 10,001 bytes of JSON; allowed are 10,000"):
        await keeps.start(too_large)
    with pytest.raises(PayloadTooLarge):
        await keeps.start_many(["small", too_large])
    with pytest.raises(PayloadTooLarge, match="event of makes"):
        await makes.send(target.id, too_large)
    with pytest.raises(PayloadTooLarge):
        await keeps.start("x" * 100_000_000)
    assert [job.id async for job in limited.jobs()] == before
    assert await limited.unread_events(target.id) == 2


def _nested(depth: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(depth - 1):
        nested = [nested]
    return nested


async def test_what_no_database_holds_is_refused_before_it_gets_there(limited: App) -> None:
    keeps = limited.tasks["keeps"]
    for bad in ("a\0b", {"a\0b": 1}, ["\0"], "\ud800", {"\udfff": 1}, _nested(201), float("nan"), float("inf")):
        with pytest.raises(PayloadRefused, match="metadata of keeps"):
            await keeps.start(bad)
    async with limited.worker():
        for good in ("\\u0000", "\x01\x7f\u2028", "😀" * 100, _nested(200), 10**300, -0.0, 5e-324, {"": {"": None}}):
            assert await (await keeps.start(good)).result(timeout=60) == good


async def test_a_huge_row_harms_no_other(limited: App, spoiler: Spoiler) -> None:
    # Written by hand: past what may be started. It is given to its handler, whose result is refused for its size.
    size = 100_000_000 if TIER == "nightly" else 5_000_000
    keeps = limited.tasks["keeps"]
    huge, neighbour = await keeps.start("huge"), await keeps.start("small")
    await spoiler.spoil("jobs", f"id = {huge.id}", {"metadata": f"'\"' || repeat('x', {size}) || '\"'"})
    async with limited.worker():
        assert await neighbour.result(timeout=120) == "small"
        await job_until(huge, lambda job: job.last_error is not None)
    assert "PayloadTooLarge" in str(huge.last_error)
