"""Starting, reading, letting go on and cancelling jobs, as an application does it, on a real PostgreSQL."""
# ruff: noqa: ARG002 - a handler has its context, whether it needs it or not

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import (
    App,
    BackgroundTask,
    CancelRequested,
    Context,
    Failed,
    Job,
    JobEnded,
    JobNotFound,
    JobQuery,
    JobState,
    NotSuspended,
    Proceeded,
    Suspended,
)
from perdure.errors import (
    DatabaseUnavailable,
    JobNotFoundError,
    MisuseError,
    PayloadRefused,
    PayloadTooLarge,
    PayloadUndecodable,
    SchemaOutdated,
)
from perdure.job import JobProgress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.cluster import Cluster


@dataclass
class Meta:
    shop: str


@dataclass
class Progress:
    rows: int = 0
    seen: list[str] = field(default_factory=list)


@dataclass
class Needs:
    token: str


@dataclass
class Imported:
    rows: int


@dataclass
class ShopClosed:
    since: str


def define(app: App) -> Any:
    """The tasks of these tests; each test has an app of its own."""

    @app.task("orders.import", queue="imports", priority=7)
    async def import_orders(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed] | Suspended:
        return Imported(ctx.execution_metadata.rows)

    @app.task("needs.checkpoint")
    async def needs_checkpoint(ctx: Context[None, Needs]) -> None: ...

    return import_orders


@pytest.fixture
async def app(migrated_database: str) -> AsyncIterator[App]:
    app = App(migrated_database)
    define(app)
    async with app:
        yield app


@pytest.fixture
def task(app: App) -> Any:
    return app.tasks["orders.import"]


@pytest.fixture
async def own(migrated_database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(migrated_database) as connection:
        yield connection


@pytest.fixture
def sync(migrated_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(migrated_database) as connection:
        yield connection


async def make(own: psycopg.AsyncConnection[Any], job: Job[Any, Any, Any, Any], **columns: Any) -> None:
    """Put a job into a state that only a worker brings about."""
    settings = ", ".join(f"{name} = %({name})s" for name in columns)
    statement = f"update background_tasks.jobs set {settings} where id = %(id)s"
    await own.execute(statement.encode(), {**columns, "id": job.id})
    await own.commit()


async def count(own: psycopg.AsyncConnection[Any]) -> int:
    row = await (await own.execute("select count(*) from background_tasks.all_jobs")).fetchone()
    assert row is not None
    await own.rollback()
    return int(row[0])


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


async def test_start_takes_a_checkpoint_a_queue_a_priority_and_a_time(app: App, task: Any) -> None:
    at = datetime.now(UTC) + timedelta(days=1)
    job = await task.start(Meta("riga"), Progress(5), at=at, queue="slow", priority=-100)
    job = await app.job(job.id)
    assert job.execution_metadata == Progress(5)
    assert (job.queue, job.priority, job.scheduled_at) == ("slow", -100, at)


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
    task: Any, own: Any, options: dict[str, Any], said: str
) -> None:
    for start in (task.start(Meta("riga"), **options), task.start_many([Meta("riga")], **options)):
        with pytest.raises(MisuseError) as refusal:
            await start
        assert said in str(refusal.value)
    assert await count(own) == 0


async def test_an_unknown_option_is_a_type_error(task: Any) -> None:
    with pytest.raises(TypeError, match="quue"):
        await task.start(Meta("riga"), quue="slow")


async def test_a_payload_of_another_type_is_refused(task: Any, own: Any) -> None:
    with pytest.raises(PayloadRefused, match=r"metadata of orders\.import"):
        await task.start(Progress(1))
    with pytest.raises(PayloadRefused, match=r"metadata of orders\.import"):
        await task.start()
    with pytest.raises(PayloadRefused, match=r"execution metadata of orders\.import"):
        await task.start(Meta("riga"), Meta("riga"))
    assert await count(own) == 0


async def test_a_checkpoint_without_defaults_has_to_be_given(app: App) -> None:
    task: Any = app.tasks["needs.checkpoint"]
    with pytest.raises(PayloadRefused, match="token"):
        await task.start()
    assert (await task.start(None, Needs("t"))).execution_metadata == Needs("t")


async def test_a_payload_over_the_limit_is_refused(migrated_database: str) -> None:
    async with App(migrated_database, execution={"max_payload_bytes": 100}) as app:
        task = define(app)
        await task.start(Meta("x" * (100 - len('{"shop":""}'))))
        with pytest.raises(PayloadTooLarge, match="100"):
            await task.start(Meta("x" * (101 - len('{"shop":""}'))))


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_a_job_started_in_the_callers_transaction_shares_its_fate(task: Any, own: Any, ending: str) -> None:
    await own.execute("create table orders (id int)")
    job = await task.start(Meta("riga"), connection=own)
    many = await task.start_many([Meta("a"), Meta("b")], connection=own)
    assert own.info.transaction_status is psycopg.pq.TransactionStatus.INTRANS
    with pytest.raises(JobNotFoundError, match=rf"no job {job.id} \(orders\.import\): the transaction"):
        await job.refresh()
    await getattr(own, ending)()
    assert await count(own) == (3 if ending == "commit" else 0)
    if ending == "commit":
        assert [(await each.refresh()).id for each in (job, *many)] == [job.id, many[0].id, many[1].id]


async def test_workers_are_told_when_the_callers_transaction_commits(app: App, task: Any, own: Any) -> None:
    async with await psycopg.AsyncConnection.connect(app.dsn, autocommit=True) as listener:
        await listener.execute(f'listen "{app.names.work_channel}"'.encode())
        await task.start(Meta("riga"))  # nobody sleeps, so nobody is told
        await task.start(Meta("riga"), connection=own, queue="one")
        await task.start_many([Meta("riga")], connection=own, queue="many")
        await own.commit()
        told = [notification.payload async for notification in listener.notifies(timeout=20, stop_after=2)]
        assert told == ["one", "many"]


async def test_the_callers_connection_keeps_its_settings(task: Any, migrated_database: str) -> None:
    async with await psycopg.AsyncConnection.connect(migrated_database, row_factory=psycopg.rows.dict_row) as own:
        show = "select name, setting from pg_settings where source = 'session' order by name"
        before = await (await own.execute(show)).fetchall()
        await task.start(Meta("riga"), connection=own)
        assert own.row_factory is psycopg.rows.dict_row
        assert own.autocommit is False
        assert await (await own.execute(show)).fetchall() == before


async def test_a_sync_connection_is_refused_with_a_pointer_to_blocking(task: Any, sync: Any, own: Any) -> None:
    with pytest.raises(MisuseError, match=r"is a sync connection, .*use app\.blocking\.start\(…\)"):
        await task.start(Meta("riga"), connection=sync)
    with pytest.raises(MisuseError, match=r"use app\.blocking\.start_many\(…\)"):
        await task.start_many([Meta("riga")], connection=sync)
    with pytest.raises(MisuseError, match=r"connection= is builtins\.str; it takes a psycopg\.AsyncConnection"):
        await task.start(Meta("riga"), connection="postgresql:///")
    assert await count(own) == 0


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


async def test_a_batch_that_is_refused_says_what_is_stored_already(task: Any, own: Any) -> None:
    def metadata() -> Iterator[Any]:
        yield from (Meta("riga") for _ in range(1500))
        yield Progress(1)

    with pytest.raises(PayloadRefused) as refusal:
        await task.start_many(metadata())
    assert await count(own) == 1000
    ids = [row[0] for row in await (await own.execute("select min(id), max(id) from background_tasks.jobs")).fetchall()]
    assert len(ids) == 1
    assert refusal.value.__notes__ == [f"start_many: 1000 jobs, the ids {ids[0]} to {ids[0] + 999}, are stored already"]


async def test_jobs_come_by_id_without_a_gap_or_a_repetition_while_they_are_read(app: App, task: Any) -> None:
    jobs = await task.start_many(Meta(str(place)) for place in range(25))
    seen = []
    async for job in app.jobs(JobQuery(page_size=4)):
        seen.append(job.id)
        if len(seen) % 7 == 0:  # each becomes another row of another table
            await app.cancel(jobs[len(seen)].id)
            await app.cancel(jobs[len(seen) - 3].id)
    assert seen == [job.id for job in jobs]
    descending = [job.id async for job in app.jobs(JobQuery(page_size=6, order="descending"))]
    assert descending == seen[::-1]


async def test_a_query_finds_what_it_asks_for(app: App, task: Any, own: Any) -> None:
    riga = await task.start(Meta("riga"), Progress(1, ["a", "b"]))
    oslo = await task.start(Meta("oslo"), queue="slow", at=timedelta(days=1))
    other: Any = app.tasks["needs.checkpoint"]
    needs = await other.start(None, Needs("t"))
    await make(own, riga, state=JobState.SUSPENDED.code, scheduled_at=None)

    async def find(**query: Any) -> list[int]:
        return [job.id async for job in app.jobs(JobQuery(**query))]

    assert await find() == [riga.id, oslo.id, needs.id]
    assert await find(states=[JobState.SUSPENDED]) == [riga.id]
    assert await find(states=[JobState.SUSPENDED, JobState.PENDING]) == [riga.id, oslo.id, needs.id]
    assert await find(states=[]) == []
    assert await find(names=["orders.import"]) == [riga.id, oslo.id]
    assert await find(queues=["slow", "default"]) == [oslo.id, needs.id]
    assert await find(metadata={"shop": "riga"}) == [riga.id]
    assert await find(metadata={"shop": "oslo"}, names=["needs.checkpoint"]) == []
    assert await find(execution_metadata={"seen": ["b"]}) == [riga.id]
    assert await find(created_after=riga.created_at) == [oslo.id, needs.id]
    assert await find(max_scheduled_at=needs.scheduled_at) == [needs.id]
    assert await find(max_scheduled_at=oslo.scheduled_at, order="descending") == [needs.id, oslo.id]


async def test_a_payload_that_cannot_be_decoded_spoils_neither_page_nor_job(app: App, task: Any, own: Any) -> None:
    first, bad, last = await task.start_many([Meta("a"), Meta("b"), Meta("c")])
    await make(own, bad, metadata='{"shop": 5}', error="[]")
    jobs = [job async for job in app.jobs()]
    assert [job.id for job in jobs] == [first.id, bad.id, last.id]
    assert (jobs[1].state, jobs[1].execution_metadata) == (JobState.PENDING, Progress())
    with pytest.raises(PayloadUndecodable, match=rf"job {bad.id}: metadata"):
        _ = jobs[1].metadata
    with pytest.raises(PayloadUndecodable, match=rf"job {bad.id}: error"):
        _ = jobs[1].error
    assert (jobs[0].metadata, jobs[2].metadata) == (Meta("a"), Meta("c"))


async def test_a_job_of_an_unknown_task_shows_plain_json(app: App, task: Any, own: Any, migrated_database: str) -> None:
    job = await task.start(Meta("riga"), Progress(2))
    await make(own, job, error='{"error": {"since": "today"}}')
    async with App(migrated_database) as other:
        seen: Job[Any, Any, Any, Any] = await other.job(job.id)
        assert seen.metadata == {"shop": "riga"}
        assert seen.execution_metadata == {"rows": 2, "seen": []}
        assert seen.error == {"since": "today"}
        assert (seen.name, seen.stored_result) == ("orders.import", None)


async def test_a_job_shows_the_progress_that_its_handler_reported(app: App, task: Any, own: Any) -> None:
    job = await task.start(Meta("riga"))
    assert job.progress is None
    await make(own, job, progress='{"done": 3, "total": null, "note": "pages", "at": "2030-01-01T00:00:00Z"}')
    at = datetime(2030, 1, 1, tzinfo=UTC)
    assert (await job.refresh()).progress == JobProgress(done=3, total=None, note="pages", at=at)


@pytest.mark.parametrize("progress", ['{"done": "many"}', "[]", '{"done": 3}', "null"])
async def test_a_progress_that_is_none_is_not_shown_and_spoils_no_page(
    app: App, task: Any, own: Any, progress: str
) -> None:
    job = await task.start(Meta("riga"))
    await make(own, job, progress=progress)
    assert [each.progress async for each in app.jobs()] == [None]


async def test_a_suspended_job_proceeds_now_or_later_and_can_be_brought_forward(app: App, task: Any, own: Any) -> None:
    job = await task.start(Meta("riga"))
    await make(own, job, state=JobState.SUSPENDED.code, scheduled_at=None)

    at = datetime.now(UTC) + timedelta(hours=2)
    match await app.proceed(job.id, at=at):
        case Proceeded(later):
            assert (later.state, later.scheduled_at) == (JobState.PROCEEDED, at)
        case other:
            pytest.fail(f"{other}")
    assert isinstance(await app.proceed(job.id, at=timedelta(hours=3)), NotSuspended)
    match await task.proceed(job.id):
        case Proceeded(now):
            assert now.state is JobState.PROCEEDED
            assert now.scheduled_at <= datetime.now(UTC) + timedelta(minutes=1)
            assert now.metadata == Meta("riga")
        case other:
            pytest.fail(f"{other}")


async def test_a_proceed_of_a_running_job_is_remembered(app: App, task: Any, own: Any) -> None:
    job = await task.start(Meta("riga"))
    await make(own, job, state=JobState.RUNNING.code, worker_id="00000000-0000-0000-0000-000000000001")
    match await app.proceed(job.id):
        case Proceeded(running):
            assert running.state is JobState.RUNNING
        case other:
            pytest.fail(f"{other}")
    row = await (await own.execute("select proceed_requested from background_tasks.jobs")).fetchone()
    assert row == (True,)


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.ENQUEUED, JobState.RETRYING, JobState.PROCEEDED])
async def test_a_job_that_does_not_wait_is_not_suspended(app: App, task: Any, own: Any, state: JobState) -> None:
    job = await task.start(Meta("riga"))
    await make(own, job, state=state.code)
    match await app.proceed(job.id):
        case NotSuspended(seen):
            assert seen.state is state
        case other:
            pytest.fail(f"{other}")


async def test_no_job_and_a_job_of_another_task_are_not_found(app: App, task: Any, own: Any) -> None:
    assert await app.proceed(10**15) == JobNotFound()
    assert await app.cancel(10**15) == JobNotFound()
    with pytest.raises(JobNotFoundError, match="there is no job 1000000000000000"):
        await app.job(10**15)
    needs: Any = app.tasks["needs.checkpoint"]
    job = await needs.start(None, Needs("t"))
    await make(own, job, state=JobState.SUSPENDED.code, scheduled_at=None)
    assert await task.proceed(job.id) == JobNotFound()
    assert (await job.refresh()).state is JobState.SUSPENDED


@pytest.mark.parametrize(
    "state",
    [JobState.PENDING, JobState.ENQUEUED, JobState.RETRYING, JobState.SUSPENDED, JobState.PROCEEDED],
)
async def test_cancel_ends_a_job_that_is_not_running_at_once(app: App, task: Any, own: Any, state: JobState) -> None:
    job = await task.start(Meta("riga"))
    await make(own, job, state=state.code)
    match await app.cancel(job.id):
        case CancelRequested(cancelled):
            assert cancelled.state is JobState.CANCELLED
            assert cancelled.finished_at is not None
        case other:
            pytest.fail(f"{other}")
    match await app.cancel(job.id):
        case JobEnded(ended):
            assert ended.state is JobState.CANCELLED
        case other:
            pytest.fail(f"{other}")
    assert isinstance(await app.proceed(job.id), NotSuspended)


async def test_cancel_of_a_running_job_is_requested(app: App, task: Any, own: Any) -> None:
    job = await task.start(Meta("riga"))
    await make(own, job, state=JobState.RUNNING.code, worker_id="00000000-0000-0000-0000-000000000001")
    for _ in range(2):
        match await app.cancel(job.id):
            case CancelRequested(running):
                assert (running.state, running.cancel_requested) == (JobState.RUNNING, True)
            case other:
                pytest.fail(f"{other}")


async def test_the_verbs_of_a_class_are_its_own(app: App, own: Any) -> None:
    @app.task("class", priority=3)
    class Import(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
        async def execute(self, ctx: Context[Meta, Progress]) -> Imported:
            return Imported(1)

    job = await Import.start(Meta("riga"), Progress(4), queue="slow")
    assert (job.name, job.priority, job.queue, job.execution_metadata) == ("class", 3, "slow", Progress(4))
    assert [each.metadata for each in await Import.start_many([Meta("a"), Meta("b")])] == [Meta("a"), Meta("b")]
    await make(own, job, state=JobState.SUSPENDED.code, scheduled_at=None)
    assert isinstance(await Import.proceed(job.id), Proceeded)


async def test_an_app_that_is_not_open_says_so(migrated_database: str) -> None:
    app = App(migrated_database)
    task = define(app)
    for use in (task.start(Meta("a")), app.proceed(1), app.cancel(1), app.job(1), app.migrate(), anext(app.jobs())):
        with pytest.raises(MisuseError, match=r"the app isn't open: use `async with app:`"):
            await use
    with pytest.raises(MisuseError, match=r"worker: the app isn't open"):
        app.worker()
    async with app:
        job = await task.start(Meta("a"))
    with pytest.raises(MisuseError, match=r"result: the app isn't open"):
        await job.result()


async def test_opens_count_and_an_app_can_be_opened_again(migrated_database: str) -> None:
    app = App(migrated_database)
    task = define(app)
    async with app:
        async with app:
            await task.start(Meta("a"))
        await task.start(Meta("b"))
    await app.close()
    async with app:
        assert [job.metadata.shop async for job in app.jobs()] == ["a", "b"]


async def test_an_app_belongs_to_the_event_loop_that_opened_it(migrated_database: str) -> None:
    async with App(migrated_database) as app:
        task = define(app)

        async def misuse() -> None:
            with pytest.raises(MisuseError, match="open: the app was opened in another event loop"):
                await app.open()
            with pytest.raises(MisuseError, match="start: the app was opened in another event loop"):
                await task.start(Meta("a"))

        await asyncio.to_thread(asyncio.run, misuse())
        await task.start(Meta("a"))


UNCLOSED = """
import asyncio, sys
from perdure import App, Context

app = App(sys.argv[1])

@app.task("unclosed")
async def unclosed(ctx: Context[None, None]) -> None: ...

async def use() -> None:
    await app.open()
    await unclosed.start()

asyncio.run(use())
asyncio.run(use())
"""


async def test_an_app_that_was_not_closed_can_be_opened_in_the_next_event_loop(
    app: App, migrated_database: str
) -> None:
    command = [sys.executable, "-c", UNCLOSED, migrated_database]
    process = await asyncio.create_subprocess_exec(*command)
    async with asyncio.timeout(50):
        assert await process.wait() == 0
    assert len([job async for job in app.jobs(JobQuery(names=["unclosed"]))]) == 2


async def test_opening_at_once_from_many_places_opens_once(migrated_database: str) -> None:
    app = App(migrated_database)
    await asyncio.gather(*(app.open() for _ in range(10)))
    pool = app.pool
    for _ in range(9):
        await app.close()
        assert app.pool is pool
    await app.close()
    assert pool.closed


async def test_without_a_database_opening_says_so_in_a_line() -> None:
    app = App("postgresql://someone:secret@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseUnavailable) as refusal:
        await app.open()
    message = str(refusal.value)
    assert message.startswith("no connection to the database: ")
    assert "127.0.0.1" in message
    assert "secret" not in message
    assert "\n" not in message


async def test_without_its_tables_a_verb_says_to_migrate_and_migrating_helps(database: str) -> None:
    async with App(database, persistence={"schema_name": 'odd "name" %s'}) as app:
        task = define(app)
        with pytest.raises(SchemaOutdated, match="perdure migrate"):
            await task.start(Meta("a"))
        async with await psycopg.AsyncConnection.connect(database) as own:
            with pytest.raises(SchemaOutdated, match="perdure migrate"):
                await task.start(Meta("a"), connection=own)
        assert await app.migrate()
        assert await app.migrate() == []
        await task.start(Meta("a"))
        assert [job.metadata async for job in app.jobs()] == [Meta("a")]


async def test_a_restarted_database_costs_a_call_or_none(
    private_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = private_cluster.create_database()
    async with App(private_cluster.dsn(database)) as app:
        task = define(app)
        await app.migrate()
        monkeypatch.setattr("perdure.pools._TRUSTED_SECONDS", 3600.0)
        await task.start(Meta("before"))
        private_cluster.stop("immediate")
        private_cluster.start()
        with pytest.raises(DatabaseUnavailable, match="whether the database has done it can't be known"):
            await task.start(Meta("just after"))
        await asyncio.gather(*(task.start(Meta("after")) for _ in range(20)))
        assert app.pool.get_stats()["pool_size"] > 3

        # Connections that lay unused for a while, here: at all, are tried before they are lent.
        monkeypatch.setattr("perdure.pools._TRUSTED_SECONDS", 0.0)
        private_cluster.stop("immediate")
        private_cluster.start()
        await asyncio.gather(*(task.start(Meta("again")) for _ in range(20)))
        async with app.pool.connection() as connection:
            await connection.execute("select 1")
        shops = [job.metadata.shop async for job in app.jobs()]
        assert shops == ["before"] + ["after"] * 20 + ["again"] * 20


async def test_when_no_connection_is_free_the_error_says_what_to_do(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.connections.WAIT_SECONDS", 0.05)
    async with App(migrated_database, execution={"max_connections": 1}) as app:
        task = define(app)
        async with app.pool.connection() as connection:
            with pytest.raises(DatabaseUnavailable, match=r"start: no connection within 0\.05 s: .* all 1 connections"):
                await task.start(Meta("a"))
            with pytest.raises(DatabaseUnavailable, match=r"inside ctx\.transaction\(\), pass its own: connection=…"):
                await task.start(Meta("a"))
            await task.start(Meta("b"), connection=connection)
        await task.start(Meta("c"))


async def test_cancelled_calls_leave_the_pool_as_it_was(migrated_database: str) -> None:
    async with App(migrated_database, execution={"max_connections": 3}) as app:
        task = define(app)
        for after_turns in range(60):
            starting = [asyncio.create_task(task.start(Meta("a"))) for _ in range(5)]
            for _ in range(after_turns):
                await asyncio.sleep(0)
            for call in starting:
                call.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
        await asyncio.gather(*(task.start(Meta("after")) for _ in range(20)))
        stats = app.pool.get_stats()
        assert stats["pool_size"] == stats["pool_available"] <= 3
        assert len([job async for job in app.jobs(JobQuery(metadata={"shop": "after"}))]) == 20


async def test_an_app_reads_its_settings_from_a_file(tmp_path: Any, migrated_database: str) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"Scheduling": {"BatchSize": 7, "PollingDelay": "00:00:00.500"}}')
    app = App.from_file(file, dsn=migrated_database, execution={"max_connections": 3})
    assert app.config.scheduling.batch_size == 7
    assert app.config.scheduling.polling_delay == timedelta(milliseconds=500)
    async with app:
        assert app.pool.max_size == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"queues": "slow"}, "queues='slow': a text alone"),
        ({"concurrency": 0}, "concurrency=0 isn't allowed"),
        ({"shutdown_grace": timedelta(seconds=-1)}, "it is 0 or more"),
        ({"shutdown_grace": "soon"}, "shutdown_grace: 'soon' is no duration"),
    ],
)
async def test_a_worker_is_refused_what_it_cannot_be(app: App, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(MisuseError) as refusal:
        app.worker(**arguments)
    assert said in str(refusal.value)
