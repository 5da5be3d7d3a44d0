"""Starting jobs, one and many: with which options and payloads, and what is refused."""
# ruff: noqa: ARG002 - a handler has its context, whether it needs it or not

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest

from perdure import App, BackgroundTask, Context, Job, JobQuery, JobState, Proceeded
from perdure.errors import MisuseError, PayloadRefused, PayloadTooLarge
from tests.support.clients import Hands, Imported, Meta, Needs, Progress, ShopClosed, define

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg


async def test_a_started_job_is_shown_as_it_is_stored(app: App, task: Any) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    job = await task.start(Meta("riga"))

    assert isinstance(job.id, int)
    assert (job.name, job.queue, job.priority) == ("orders.import", "imports", 7)
    assert job.state is JobState.PENDING
    assert (job.attempt, job.retry_number) == (0, 0)
    assert (job.metadata, job.execution_metadata) == (Meta("riga"), Progress())
    assert before < job.created_at == job.scheduled_at
    assert (job.finished_at, job.started_at, job.last_error, job.error, job.stored_result) == (None,) * 5
    assert repr(job) == f"<Job {job.id} 'orders.import': pending>"

    shown = {name: getattr(job, name) for name in dir(Job) if isinstance(getattr(Job, name), property)}
    assert await job.refresh() is job
    assert {name: getattr(job, name) for name in shown} == shown
    assert {name: getattr(await app.job(job.id), name) for name in shown} == shown


async def test_a_duration_is_as_long_where_the_clocks_change(task: Any, own: psycopg.AsyncConnection[Any]) -> None:
    await own.execute("set timezone = 'Europe/Riga'")
    for days in (91, 182, 273):  # whatever today is, a change of the clocks is in one of them
        duration = timedelta(days=days)
        job = await task.start(Meta("riga"), at=duration, deadline=duration, connection=own)
        assert (job.scheduled_at - job.created_at, job.deadline_at - job.scheduled_at) == (duration, duration)
        assert job.scheduled_at.utcoffset() == timedelta()


@pytest.mark.parametrize("deadline", [90, 90.0, "00:01:30", timedelta(seconds=90)])
async def test_a_deadline_is_a_duration_however_it_is_written(app: App, task: Any, deadline: Any) -> None:
    job = await task.start(Meta("riga"), deadline=deadline)
    assert job.deadline_at - job.scheduled_at == timedelta(seconds=90)
    (job,) = await task.start_many([Meta("riga")], deadline=deadline)
    assert job.deadline_at - job.scheduled_at == timedelta(seconds=90)
    with pytest.raises(MisuseError, match="deadline='90' isn't allowed; it is more than 0, and 0 s to 36500 days"):
        await task.start(Meta("riga"), deadline="90")


async def test_start_takes_a_checkpoint_a_queue_a_priority_and_a_time(app: App, task: Any) -> None:
    at = datetime.now(UTC) + timedelta(days=1)
    job = await task.start(Meta("riga"), Progress(5), at=at, queue="slow", priority=-100)
    job = await app.job(job.id)
    assert job.execution_metadata == Progress(5)
    assert (job.queue, job.priority, job.scheduled_at) == ("slow", -100, at)


class _Priority(int, Enum):
    HIGH = 50


async def test_a_priority_may_be_the_member_of_an_enum_of_numbers(app: App, task: Any) -> None:
    job = await task.start(Meta("riga"), priority=_Priority.HIGH)
    assert (await app.job(job.id)).priority == 50


async def test_a_duration_counts_from_now_by_the_databases_clock_and_the_past_means_now(task: Any) -> None:
    later = await task.start(Meta("riga"), at=timedelta(hours=1))
    assert later.scheduled_at - later.created_at == timedelta(hours=1)
    for past in (timedelta(hours=-1), datetime(1999, 1, 1, tzinfo=UTC)):
        job = await task.start(Meta("riga"), at=past)
        assert job.scheduled_at == job.created_at


async def test_a_job_does_not_share_its_checkpoint_with_the_caller(task: Any) -> None:
    progress = Progress(1)
    job = await task.start(Meta("riga"), progress)
    progress.rows = 2
    job.execution_metadata.seen.append("changed")
    assert (await job.refresh()).execution_metadata == Progress(1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"at": datetime(2030, 1, 1)}, "at: datetime.datetime(2030, 1, 1, 0, 0) has no time zone"),  # noqa: DTZ001
        ({"at": "tomorrow"}, "at: 'tomorrow' is no time"),
        ({"queue": ""}, "task 'orders.import': queue=''"),
        ({"priority": 101}, "task 'orders.import': priority=101"),
    ],
)
async def test_an_option_that_is_not_allowed_stores_nothing(
    task: Any, hands: Hands, options: dict[str, Any], said: str
) -> None:
    for start in (task.start(Meta("riga"), **options), task.start_many([Meta("riga")], **options)):
        with pytest.raises(MisuseError) as refusal:
            await start
        assert said in str(refusal.value)
    assert hands.count() == 0


async def test_an_unknown_option_is_a_type_error(task: Any) -> None:
    with pytest.raises(TypeError, match="quue"):
        await task.start(Meta("riga"), quue="slow")


async def test_a_payload_of_another_type_is_refused(task: Any, hands: Hands) -> None:
    with pytest.raises(PayloadRefused, match=r"metadata of orders\.import"):
        await task.start(Progress(1))
    with pytest.raises(PayloadRefused, match=r"metadata of orders\.import"):
        await task.start()
    with pytest.raises(PayloadRefused, match=r"execution metadata of orders\.import"):
        await task.start(Meta("riga"), Meta("riga"))
    assert hands.count() == 0


async def test_a_checkpoint_without_defaults_has_to_be_given(app: App) -> None:
    task: Any = app.tasks["needs.checkpoint"]
    said = (
        "execution metadata of needs.checkpoint: Needs has no default, since its field 'token' has none: give a value, "
        "or the field a default; it is given as execution_metadata="
    )
    with pytest.raises(PayloadRefused, match=f"^{said}$"):
        await task.start()
    with pytest.raises(PayloadRefused, match=f"^{said}$"):
        await task.start_many([None])
    with pytest.raises(PayloadRefused, match=f"^{said}$"):
        app.blocking.start(task)
    assert (await task.start(None, Needs("t"))).execution_metadata == Needs("t")


async def test_a_payload_over_the_limit_is_refused(migrated_database: str) -> None:
    async with App(migrated_database, execution={"max_payload_bytes": 100}) as app:
        task = define(app)
        await task.start(Meta("x" * (100 - len('{"shop":""}'))))
        with pytest.raises(PayloadTooLarge, match="100"):
            await task.start(Meta("x" * (101 - len('{"shop":""}'))))


@pytest.mark.parametrize("number", [0, 1, 999, 1000, 1001, 2500])
async def test_start_many_keeps_the_order_over_all_batches(app: App, task: Any, number: int) -> None:
    shops = [f"shop {place}" for place in range(number)]
    jobs = await task.start_many((Meta(shop) for shop in shops), Progress(3), queue="slow")
    assert [job.metadata.shop for job in jobs] == shops
    assert [job.id for job in jobs] == sorted({job.id for job in jobs})
    stored = [job async for job in app.jobs(JobQuery(page_size=700))]
    assert [(job.id, job.metadata.shop) for job in stored] == [(job.id, job.metadata.shop) for job in jobs]
    assert {job.queue for job in stored} <= {"slow"}
    assert all(job.execution_metadata == Progress(3) for job in stored)


async def test_start_many_cuts_large_payloads_into_smaller_batches(app: App, task: Any) -> None:
    jobs = await task.start_many(Meta(f"{place}{'x' * 2_000_000}") for place in range(11))
    assert [job.metadata.shop[:3] for job in jobs] == [f"{place}xx"[:3] for place in range(11)]
    assert len([job async for job in app.jobs()]) == 11


async def test_a_batch_that_is_refused_says_what_is_stored_already(task: Any, hands: Hands) -> None:
    def metadata() -> Iterator[Any]:
        yield from (Meta("riga") for _ in range(1500))
        yield Progress(1)

    with pytest.raises(PayloadRefused) as refusal:
        await task.start_many(metadata())
    assert hands.count() == 1000
    ids = [row[0] for row in hands.sql("select min(id), max(id) from background_tasks.jobs")]
    assert len(ids) == 1
    assert refusal.value.__notes__ == [f"start_many: 1000 jobs, the ids {ids[0]} to {ids[0] + 999}, are stored already"]


async def test_the_verbs_of_a_class_are_its_own(app: App, hands: Hands) -> None:
    @app.task("class", priority=3)
    class Import(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
        async def execute(self, ctx: Context[Meta, Progress]) -> Imported:
            return Imported(1)

    job = await Import.start(Meta("riga"), Progress(4), queue="slow")
    assert (job.name, job.priority, job.queue, job.execution_metadata) == ("class", 3, "slow", Progress(4))
    assert [each.metadata for each in await Import.start_many([Meta("a"), Meta("b")])] == [Meta("a"), Meta("b")]
    hands.make(job, state=JobState.SUSPENDED.code, scheduled_at=None)
    assert isinstance(await Import.proceed(job.id), Proceeded)
