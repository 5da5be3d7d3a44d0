"""`job.result()`: one LISTEN connection a process for all who wait, and polling behind it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, Context, Failed, JobCancelled, JobFailed, JobState, Raised, Suspended
from perdure.client import Client
from perdure.errors import JobNotFoundError, MisuseError, PayloadUndecodable
from perdure.store.sql import names_of
from perdure.waiting import Waiters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

END = """
with ended as (delete from background_tasks.jobs where id = %(id)s returning *)
insert into background_tasks.finished_jobs (id, scheduled_at, created_at, finished_at, claim, attempt, retry_number,
    checkpoint, state, priority, queue, task, metadata, execution_metadata, result, error, woken_by, version)
select id, scheduled_at, created_at, clock_timestamp(), claim, attempt, retry_number,
    checkpoint, %(state)s, priority, queue, task, metadata, execution_metadata, %(result)s::json, %(error)s::json,
    woken_by, version
from ended
"""
LISTENERS = "select pid from pg_stat_activity where datname = current_database() and query ilike 'listen %'"


@dataclass
class Imported:
    rows: int


@dataclass
class ShopClosed:
    since: str


def define(app: App) -> Any:
    @app.task("orders.import")
    async def import_orders(ctx: Context[None, None]) -> Imported | Failed[ShopClosed] | Suspended:
        return Imported(1)

    return import_orders


@pytest.fixture
async def app(migrated_database: str) -> AsyncIterator[App]:
    async with App(migrated_database, scheduling={"polling_delay": timedelta(days=1)}) as app:
        define(app)
        yield app


@pytest.fixture
async def polling_app(migrated_database: str) -> AsyncIterator[App]:
    async with App(migrated_database, scheduling={"polling_delay": timedelta(milliseconds=20)}) as app:
        define(app)
        yield app


@pytest.fixture
async def worker(migrated_database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Stands for a worker: the connection by which jobs end."""
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        yield connection


async def end(
    worker: psycopg.AsyncConnection[Any],
    job_id: int,
    state: JobState = JobState.COMPLETED,
    *,
    result: str | None = None,
    error: str | None = None,
    notify: bool = True,
) -> None:
    await worker.execute(END, {"id": job_id, "state": state.code, "result": result, "error": error})
    if notify:
        channel = names_of("background_tasks").done_channel
        await worker.execute("select pg_notify(%s, %s)", [channel, str(job_id)])


async def until_awaited(worker: psycopg.AsyncConnection[Any], job_ids: list[int]) -> None:
    """Wait until somebody waits for these jobs: reads in a loop, since nothing tells."""
    async with asyncio.timeout(30):
        while True:
            cursor = await worker.execute(
                "select count(*) from background_tasks.jobs where awaited and id = any(%s)", [job_ids]
            )
            if await cursor.fetchone() == (len(job_ids),):
                return


async def until_listening(worker: psycopg.AsyncConnection[Any]) -> list[tuple[Any, ...]]:
    """Wait until somebody listens, and return who."""
    async with asyncio.timeout(30):
        while not (listeners := await (await worker.execute(LISTENERS)).fetchall()):
            pass
    return listeners


async def test_who_waits_is_told_of_the_end(app: App, worker: Any) -> None:
    job = await define_and_start(app)
    waiting = asyncio.create_task(job.result())
    await until_awaited(worker, [job.id])
    await until_listening(worker)
    await end(worker, job.id, result='{"rows": 5}')
    async with asyncio.timeout(20):
        assert await waiting == Imported(5)
    assert job.state is JobState.COMPLETED
    assert job.finished_at is not None
    assert job.stored_result == Imported(5)


async def define_and_start(app: App) -> Any:
    task: Any = app.tasks["orders.import"]
    return await task.start()


async def test_an_ended_job_gives_its_result_at_once_and_again(app: App, worker: Any) -> None:
    job = await define_and_start(app)
    await end(worker, job.id, result='{"rows": 5}', notify=False)
    assert await job.result() == Imported(5)
    assert await job.result(timeout=0) == Imported(5)


async def test_a_lost_notification_delays_by_a_poll(polling_app: App, worker: Any) -> None:
    jobs = [await define_and_start(polling_app) for _ in range(5)]
    waiting = [asyncio.create_task(job.result()) for job in jobs]
    await until_awaited(worker, [job.id for job in jobs])
    for number, job in enumerate(jobs):
        await end(worker, job.id, result=f'{{"rows": {number}}}', notify=False)
    async with asyncio.timeout(20):
        assert await asyncio.gather(*waiting) == [Imported(number) for number in range(5)]


async def test_all_who_wait_share_one_listening_connection_that_comes_back(app: App, worker: Any) -> None:
    jobs = [await define_and_start(app) for _ in range(20)]
    waiting = [asyncio.create_task(job.result()) for job in jobs for _ in range(2)]
    await until_awaited(worker, [job.id for job in jobs])
    listeners = await until_listening(worker)
    assert len(listeners) == 1

    # What is notified while it is away is lost: here, everything. Once it is back, it looks for itself.
    for job in jobs:
        await end(worker, job.id, result='{"rows": 1}', notify=False)
    await worker.execute("select pg_terminate_backend(%s, 5000)", listeners[0])
    async with asyncio.timeout(20):
        assert await asyncio.gather(*waiting) == [Imported(1)] * 40


async def test_a_thousand_who_wait_need_one_connection_and_few_statements(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(migrated_database, execution={"max_connections": 1})
    task = define(app)
    run, statements = Client.run, 0

    async def counted(client: Client, purpose: str, call: Any) -> Any:
        nonlocal statements
        statements += 1
        return await run(client, purpose, call)

    monkeypatch.setattr(Client, "run", counted)
    async with app:
        jobs = await task.start_many([None] * 1000)
        waiting = [asyncio.create_task(job.result(timeout=30)) for job in jobs]
        async with app.worker():
            assert await asyncio.gather(*waiting) == [Imported(1)] * 1000
    assert statements < 200


async def test_a_locked_row_holds_up_no_other_waiter(app: App, migrated_database: str, worker: Any) -> None:
    locked, other = await app.tasks["orders.import"].start_many([None] * 2)
    async with await psycopg.AsyncConnection.connect(migrated_database) as own:
        await own.execute("update background_tasks.jobs set progress = null where id = %s", [locked.id])
        waiting = [asyncio.create_task(job.result(timeout=30)) for job in (locked, other)]
        await until_awaited(worker, [other.id])
        await end(worker, other.id, result='{"rows": 5}')
        assert await waiting[1] == Imported(5)
        await own.rollback()
    await until_awaited(worker, [locked.id])
    await end(worker, locked.id, result='{"rows": 6}')
    assert await waiting[0] == Imported(6)


async def test_who_waits_when_the_app_is_closed_is_told(migrated_database: str, worker: Any) -> None:
    app = App(migrated_database)
    task = define(app)
    async with app:
        job = await task.start()
        waiting = asyncio.create_task(job.result())
        await until_awaited(worker, [job.id])
    with pytest.raises(MisuseError, match=r"the app (was closed|isn't open)"):
        await waiting


async def test_a_wait_in_another_event_loop_is_refused_and_harms_nobody(polling_app: App, worker: Any) -> None:
    job = await define_and_start(polling_app)
    with pytest.raises(MisuseError, match="opened in another event loop"):
        await asyncio.to_thread(lambda: asyncio.run(job.result(timeout=10)))
    waiting = asyncio.create_task(job.result(timeout=30))
    await until_awaited(worker, [job.id])
    await end(worker, job.id, result='{"rows": 5}', notify=False)
    async with asyncio.timeout(20):
        assert await waiting == Imported(5)


async def test_a_result_that_does_not_come_in_time_is_a_timeout_and_the_job_goes_on(app: App, worker: Any) -> None:
    job = await define_and_start(app)
    await worker.execute("update background_tasks.jobs set state = 3")
    said = rf"job {job.id} \(orders\.import\) has not ended within 0(\.01)? s; it is retrying"
    for timeout in (0, 0.01, timedelta(milliseconds=10)):
        with pytest.raises(TimeoutError, match=said):
            await job.result(timeout=timeout)
    assert job.state is JobState.RETRYING


async def test_a_waiter_can_be_cancelled(app: App, worker: Any) -> None:
    job = await define_and_start(app)
    waiting = asyncio.create_task(job.result())
    await until_awaited(worker, [job.id])
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_failed_job_raises_its_own_error(app: App, worker: Any) -> None:
    job = await define_and_start(app)
    await end(worker, job.id, JobState.FAILED, error='{"error": {"since": "today"}}')
    with pytest.raises(JobFailed, match=r"\(orders\.import\) failed: ShopClosed\(since='today'\)") as failure:
        await job.result()
    assert failure.value.error == job.error == ShopClosed("today")
    assert failure.value.job_id == job.id


async def test_a_job_that_raised_shows_what(app: App, worker: Any) -> None:
    job = await define_and_start(app)
    error = '{"raised": {"type": "ValueError", "message": "no rows", "traceback": "Traceback…"}}'
    await end(worker, job.id, JobState.FAILED, error=error)
    with pytest.raises(JobFailed, match="failed: ValueError: no rows") as failure:
        await job.result()
    assert failure.value.error == Raised("ValueError", "no rows", "Traceback…")


async def test_a_cancelled_job_raises_with_its_error_if_it_has_one(app: App, worker: Any) -> None:
    job, other = await define_and_start(app), await define_and_start(app)
    await app.cancel(job.id)
    with pytest.raises(JobCancelled, match=r"\(orders\.import\) was cancelled$") as cancelled:
        await job.result()
    assert cancelled.value.error is None
    await end(worker, other.id, JobState.CANCELLED, error='{"error": {"since": "today"}}')
    with pytest.raises(JobCancelled, match=r"was cancelled: ShopClosed"):
        await other.result()


async def test_cancelling_tells_who_waits(app: App, worker: Any) -> None:
    job = await define_and_start(app)
    waiting = asyncio.create_task(job.result())
    await until_awaited(worker, [job.id])
    await until_listening(worker)
    await app.cancel(job.id)
    with pytest.raises(JobCancelled):
        async with asyncio.timeout(20):
            await waiting


async def test_a_result_that_cannot_be_decoded_says_so_and_an_error_still_fails(app: App, worker: Any) -> None:
    job, other = await define_and_start(app), await define_and_start(app)
    await end(worker, job.id, result='{"rows": "many"}')
    with pytest.raises(PayloadUndecodable, match=rf"job {job.id}: result"):
        await job.result()
    await end(worker, other.id, JobState.FAILED, error='{"error": 5}')
    with pytest.raises(JobFailed, match=rf"job {other.id}: error"):
        await other.result()


async def test_a_job_that_is_deleted_while_somebody_waits_is_not_found(polling_app: App, worker: Any) -> None:
    job = await define_and_start(polling_app)
    waiting = asyncio.create_task(job.result(timeout=30))
    await until_awaited(worker, [job.id])
    await worker.execute("delete from background_tasks.jobs")
    with pytest.raises(JobNotFoundError, match=rf"no job {job.id}"):
        await waiting


async def test_closing_the_app_leaves_no_connection_behind(migrated_database: str, worker: Any) -> None:
    async with App(migrated_database) as app:
        define(app)
        job = await define_and_start(app)
        with pytest.raises(TimeoutError):
            await job.result(timeout=0.01)
    async with asyncio.timeout(30):
        others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        while await (await worker.execute(others)).fetchone() != (0,):
            pass


# --- a job of a transaction that is open ---


@pytest.mark.parametrize("polling_delay", [timedelta(milliseconds=20), timedelta(days=1)])
async def test_a_job_started_in_an_open_transaction_is_waited_for_until_it_is_there(
    migrated_database: str, worker: Any, polling_delay: timedelta
) -> None:
    async with App(migrated_database, scheduling={"polling_delay": polling_delay}) as app:
        task = define(app)
        other = await task.start()
        with pytest.raises(TimeoutError):  # the poller is at rest by then
            await other.result(timeout=0.05)
        async with await psycopg.AsyncConnection.connect(migrated_database) as own:
            job = await task.start(connection=own)
            (second,) = await task.start_many([None], connection=own)
            waiting = [asyncio.create_task(each.result(timeout=30)) for each in (job, second)]
            await until_listening(worker)
            await asyncio.sleep(0.1)  # with the shorter delay it is looked for several times meanwhile
            assert not any(each.done() for each in waiting)
            await own.commit()
        await until_awaited(worker, [job.id, second.id])
        for each in (job, second):
            await end(worker, each.id, result='{"rows": 5}')
        assert await asyncio.gather(*waiting) == [Imported(5)] * 2


async def test_a_job_that_appears_between_asking_and_looking_is_asked_for_again(
    migrated_database: str, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Waiters._read_many
    async with await psycopg.AsyncConnection.connect(migrated_database) as own:

        async def commit_and_read(self: Waiters, job_ids: list[int]) -> Any:
            await own.commit()
            return await read(self, job_ids)

        monkeypatch.setattr(Waiters, "_read_many", commit_and_read)
        monkeypatch.setattr(Waiters, "_not_there_yet", lambda _: [])  # the poller has looked just before
        async with App(migrated_database, scheduling={"polling_delay": timedelta(days=1)}) as app:
            job = await define(app).start(connection=own)
            waiting = asyncio.create_task(job.result(timeout=30))
            await until_awaited(worker, [job.id])
            await end(worker, job.id, result='{"rows": 5}')
            assert await waiting == Imported(5)


async def test_an_end_just_before_the_asking_is_seen(app: App, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Waiters._ask_many

    async def end_and_ask(self: Waiters, job_ids: list[int]) -> Any:
        await end(worker, job_ids[0], result='{"rows": 5}', notify=False)
        return await ask(self, job_ids)

    monkeypatch.setattr(Waiters, "_ask_many", end_and_ask)
    monkeypatch.setattr(Waiters, "_start", lambda _: None)  # nobody listens or polls: it is seen at once, or never
    async with App(app.dsn) as other:
        async with asyncio.timeout(10):
            assert await (await define(other).start()).result() == Imported(5)


async def test_a_job_of_a_transaction_that_is_not_committed_in_time_is_not_found(
    polling_app: App, migrated_database: str
) -> None:
    task: Any = polling_app.tasks["orders.import"]
    async with await psycopg.AsyncConnection.connect(migrated_database) as own:
        job = await task.start(connection=own)
        said = rf"no job {job.id} \(orders\.import\): the transaction that it was started in isn't committed"
        with pytest.raises(JobNotFoundError, match=said):
            await job.result(timeout=0.2)
        await own.rollback()
    with pytest.raises(JobNotFoundError, match=said):
        await job.result(timeout=0)


def test_code_that_does_not_await_waits_for_the_transaction_too(migrated_database: str) -> None:
    app = App(migrated_database)
    task = define(app)
    try:
        with psycopg.connect(migrated_database) as own:
            job = app.blocking.start(task, None, connection=own)
            with pytest.raises(JobNotFoundError, match="the transaction that it was started in isn't committed"):
                app.blocking.result(job, timeout=0.1)
            committing = threading.Timer(0.2, own.commit)
            committing.start()
            with pytest.raises(TimeoutError, match="it is pending"):
                app.blocking.result(job, timeout=2)
            committing.join()
            own.execute("delete from background_tasks.jobs")
            own.commit()
            with pytest.raises(JobNotFoundError, match="any more"):  # at once: it has been there
                app.blocking.result(job)
    finally:
        app.blocking.close()
