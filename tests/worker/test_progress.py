"""`ctx.progress`: what can't be one is refused at the call; what can't be stored of a note doesn't fail a job."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from perdure import Context, JobState
from perdure import blocking as perdure_blocking
from perdure.errors import MisuseError
from tests.support.jobs import job_until

if TYPE_CHECKING:
    from perdure import App


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((float("nan"),), "done=nan isn't allowed; it is a finite number"),
        ((float("inf"),), "done=inf isn't allowed"),
        ((10**400,), "done=1000"),
        (("a",), "done='a' isn't allowed"),
        ((Decimal(1),), "done=Decimal('1') isn't allowed"),
        ((True,), "done=True isn't allowed"),
        ((object(),), "done=<object object at "),
        ((None,), "done=None isn't allowed"),
        ((1, float("nan")), "total=nan isn't allowed; it is a finite number"),
        ((1, "2"), "total='2' isn't allowed"),
        ((1, 2, b"note"), "note=b'note' isn't allowed; it is a text, or None"),
    ],
)
async def test_what_is_no_progress_is_refused_at_the_call(app: App, arguments: Any, said: str) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> str:
        with pytest.raises(MisuseError) as refusal:
            await ctx.progress(*arguments)
        return str(refusal.value)

    @app.task("in a thread")
    def in_a_thread(ctx: perdure_blocking.Context[None, None]) -> str:
        with pytest.raises(MisuseError) as refusal:
            ctx.progress(*arguments)
        return str(refusal.value)

    async with app.worker():
        for each in (task, in_a_thread):
            assert (await (await each.start()).result(timeout=10)).startswith(f"ctx.progress: {said}")


@pytest.mark.parametrize(
    ("note", "kept"),
    [
        ("half\udcff \0of it", "half? ?of it"),
        ("ä" * 1_000, "ä" * 1_000),
        ("x" * 5_000_000, "x" * 1_000),
        ("", ""),
    ],
    ids=["unstorable", "as long as may be", "longer", "empty"],
)
async def test_a_note_fails_no_job(app: App, note: str, kept: str) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        await ctx.progress(2**70, 1e300, note)

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.COMPLETED and job.progress is not None)
    assert job.progress is not None
    assert (job.progress.done, job.progress.total, job.progress.note) == (2.0**70, 1e300, kept)
