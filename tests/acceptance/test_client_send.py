"""Sending events: to whom, in which transaction, what is refused, and that nobody sleeps over one."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from perdure import (
    App,
    BackgroundTask,
    Context,
    JobEnded,
    JobNotFound,
    JobQuery,
    JobState,
    MultipleJobsFound,
    Sent,
    WokenBy,
)
from perdure.errors import DefinitionError, MisuseError, PayloadRefused, PayloadTooLarge
from perdure.verbs import sending
from tests.support.clients import (
    Approved,
    Hands,
    Imported,
    Meta,
    Needs,
    Progress,
    Rejected,
    ShopClosed,
    define,
    until_waiting,
)

EVENTS = "select job_id, version, event from background_tasks.events order by job_id, id"


# --- who gets it ---


async def test_an_event_is_stored_and_wakes_a_suspended_job(app: App, task: Any, hands: Hands) -> None:
    job = await task.start(Meta("riga"))
    hands.suspend(job)
    assert await task.send(job.id, Approved("ann")) == Sent(job.id)
    await job.refresh()
    assert (job.state, job.woken_by) == (JobState.PROCEEDED, WokenBy.EVENT)
    assert job.scheduled_at is not None
    assert hands.sql(EVENTS) == [(job.id, 1, {"type": "Approved", "by": "ann"})]
    assert await app.unread_events(job.id) == 1


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.ENQUEUED, JobState.RETRYING, JobState.RUNNING])
async def test_an_event_of_a_job_that_does_not_wait_is_kept_in_order_and_changes_nothing_else(
    task: Any, hands: Hands, state: JobState
) -> None:
    job = await task.start(Meta("riga"))
    if state is JobState.RUNNING:
        hands.run(job)
    else:
        hands.make(job, state=state.code)
    before = hands.sql("select * from background_tasks.jobs")
    for number in range(3):
        assert await task.send(job.id, Rejected("ann", str(number))) == Sent(job.id)
    assert [event["why"] for _, _, event in hands.sql(EVENTS)] == ["0", "1", "2"]
    assert hands.sql("select * from background_tasks.jobs") == before


async def test_an_event_brings_a_job_forward_that_was_let_go_on_for_later(app: App, task: Any, hands: Hands) -> None:
    job = await task.start(Meta("riga"))
    hands.sql("update background_tasks.jobs set state = 5, scheduled_at = now() + interval '1 h', woken_by = 1")
    assert await task.send(job.id, Approved("ann")) == Sent(job.id)
    assert hands.column(job, "scheduled_at <= clock_timestamp()")


async def test_a_sleeping_job_is_not_woken_by_an_event(task: Any, hands: Hands) -> None:
    job = await task.start(Meta("riga"))
    hands.suspend(job)
    hands.make(job, asleep=True)
    assert await task.send(job.id, Approved("ann")) == Sent(job.id)
    assert hands.column(job, "state") == JobState.SUSPENDED.code


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED])
async def test_an_event_to_a_final_job_says_so_and_is_not_stored(task: Any, hands: Hands, state: JobState) -> None:
    job = await task.start(Meta("riga"))
    hands.end(job, state.code)
    match await task.send(job.id, Approved("ann")):
        case JobEnded(ended):
            assert (ended.id, ended.state, ended.metadata) == (job.id, state, Meta("riga"))
        case other:
            pytest.fail(f"{other}")
    assert hands.sql(EVENTS) == []


async def test_no_job_and_a_job_of_another_task_are_not_found(app: App, task: Any, hands: Hands) -> None:
    needs: Any = app.tasks["needs.checkpoint"]
    job, ended = await needs.start(None, Needs("t")), await needs.start(None, Needs("t"))
    hands.end(ended, 6)
    for which in (10**15, job.id, ended.id, JobQuery(names=["needs.checkpoint"]), JobQuery(metadata={"shop": "riga"})):
        assert await task.send(which, Approved("ann")) == JobNotFound()
    assert hands.sql(EVENTS) == []


async def test_a_query_addresses_a_waiter_by_its_metadata_or_its_checkpoint(task: Any, hands: Hands) -> None:
    riga, oslo, ended = await task.start_many([Meta("riga"), Meta("oslo"), Meta("riga")], Progress(3))
    hands.end(ended, 6)
    hands.suspend(riga, oslo)
    assert await task.send(JobQuery(metadata={"shop": "riga"}), Approved("ann")) == Sent(riga.id)
    hands.make(oslo, execution_metadata='{"rows": 4}')
    assert await task.send(JobQuery(execution_metadata={"rows": 4}), Approved("ann")) == Sent(oslo.id)
    match await task.send(JobQuery(states=[JobState.PROCEEDED]), Approved("ann")):
        case MultipleJobsFound(jobs):
            assert [job.id for job in jobs] == [riga.id, oslo.id]
        case other:
            pytest.fail(f"{other}")
    assert isinstance(await task.send(JobQuery(states=[JobState.COMPLETED]), Approved("ann")), JobEnded)
    assert [job_id for job_id, _, _ in hands.sql(EVENTS)] == [riga.id, oslo.id]


async def test_the_one_job_of_a_query_must_still_match_once_it_is_held(
    task: Any, hands: Hands, own: psycopg.AsyncConnection[Any]
) -> None:
    job = await task.start(Meta("riga"))
    hands.suspend(job)
    await own.execute("select 1 from background_tasks.jobs for update")
    sending = asyncio.create_task(task.send(JobQuery(execution_metadata={"rows": 0}), Approved("ann")))
    await until_waiting(hands)
    await own.execute("update background_tasks.jobs set execution_metadata = '{\"rows\": 5}'")
    await own.commit()
    assert await sending == JobNotFound()
    assert hands.sql(EVENTS) == []


async def test_the_send_of_a_class_is_a_class_method(app: App, hands: Hands) -> None:
    @app.task("class", events=Approved)
    class Import(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
        async def execute(self, ctx: Context[Meta, Progress]) -> Imported:
            return Imported(ctx.attempt)

    job = await Import.start(Meta("riga"))
    assert await Import.send(job.id, Approved("ann")) == Sent(job.id)
    assert await Import.send(JobQuery(metadata={"shop": "riga"}), Approved("bob")) == Sent(job.id)
    assert [event for _, _, event in hands.sql(EVENTS)] == [{"by": "ann"}, {"by": "bob"}]


# --- what it may be ---


async def test_an_event_of_another_type_is_refused(task: Any, hands: Hands) -> None:
    job = await task.start(Meta("riga"))
    for event in (Meta("riga"), None, {"by": "ann"}, Approved(by=5)):  # type: ignore[arg-type]
        with pytest.raises(PayloadRefused, match=r"event of orders\.import"):
            await task.send(job.id, event)
    with pytest.raises(PayloadTooLarge, match=r"execution\.max_payload_bytes"):
        await task.send(job.id, Approved("x" * 3_000_000))
    assert hands.sql(EVENTS) == []


async def test_none_is_no_event_even_where_any_is(app: App, hands: Hands) -> None:
    @app.task("anything", events=Any)
    async def anything(ctx: Context[None, None]) -> None: ...

    job = await anything.start()
    with pytest.raises(PayloadRefused, match=r"event of anything: None can't be one: next_event\(\) returns it when"):
        await anything.send(job.id, None)
    assert hands.sql(EVENTS) == []


async def test_a_task_without_events_says_how_to_declare_them(app: App) -> None:
    nothing: Any = app.tasks["nothing"]
    job = await nothing.start()
    said = r"the task 'nothing' takes no events; declare .*@app\.task\('nothing', events=Approved \| Rejected\)"
    with pytest.raises(MisuseError, match=said):
        await nothing.send(job.id, Approved("ann"))


def test_events_that_cannot_be_stored_are_refused_at_the_definition() -> None:
    app = App("postgresql:///nobody-connects")

    async def handler(ctx: Context[None, None]) -> None: ...

    with pytest.raises(DefinitionError, match=r"task 'events', events: "):
        app.task("events", events=object)(handler)


async def test_what_is_neither_an_id_nor_a_query_is_refused(task: Any) -> None:
    with pytest.raises(MisuseError, match="send: '1' is neither a job's id nor a JobQuery"):
        await task.send("1", Approved("ann"))


# --- the caller's transaction ---


@pytest.mark.parametrize("ending", ["commit", "rollback"])
@pytest.mark.parametrize("by", ["id", "query"])
async def test_an_event_sent_in_the_callers_transaction_shares_its_fate(
    task: Any, hands: Hands, own: psycopg.AsyncConnection[Any], ending: str, by: str
) -> None:
    job = await task.start(Meta("riga"))
    hands.suspend(job)
    which = job.id if by == "id" else JobQuery(metadata={"shop": "riga"})
    assert await task.send(which, Approved("ann"), connection=own) == Sent(job.id)
    assert (await job.refresh()).state is JobState.SUSPENDED
    assert hands.sql(EVENTS) == []
    await getattr(own, ending)()
    assert (await job.refresh()).state is (JobState.PROCEEDED if ending == "commit" else JobState.SUSPENDED)
    assert len(hands.sql(EVENTS)) == (1 if ending == "commit" else 0)


async def test_a_job_and_its_first_event_can_be_of_one_transaction(
    task: Any, hands: Hands, own: psycopg.AsyncConnection[Any]
) -> None:
    job = await task.start(Meta("riga"), connection=own)
    assert await task.send(job.id, Approved("ann"), connection=own) == Sent(job.id)
    await own.commit()
    assert [job_id for job_id, _, _ in hands.sql(EVENTS)] == [job.id]


async def test_a_sync_connection_is_refused_with_a_pointer_to_blocking(task: Any, hands: Hands) -> None:
    with pytest.raises(MisuseError, match=r"is a sync connection, .*use app\.blocking\.send\(…\)"):
        await task.send(1, Approved("ann"), connection=hands.connection)


async def test_workers_are_told_when_the_callers_transaction_commits_even_if_none_slept_before(
    app: App, task: Any, hands: Hands, own: psycopg.AsyncConnection[Any]
) -> None:
    job, other = await task.start_many([Meta("riga"), Meta("oslo")], queue="slow")
    hands.suspend(job, other)
    hands.sql(f'listen "{app.names.work_channel}"')
    await task.send(other.id, Approved("ann"))  # nobody sleeps, so nobody is told
    await task.send(job.id, Approved("ann"), connection=own)
    await own.commit()
    told = [notification.payload for notification in hands.connection.notifies(timeout=20, stop_after=1)]
    assert told == ["slow"]


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
async def test_a_sender_whose_snapshot_is_older_than_the_suspension_cannot_leave_the_job_asleep(
    task: Any, hands: Hands, own: psycopg.AsyncConnection[Any], level: str
) -> None:
    """In read committed it wakes the job; in others, where it can't see the suspension, it is refused."""
    job = await task.start(Meta("riga"))
    hands.run(job)
    await own.execute(f"begin isolation level {level}".encode())
    await own.execute("select 1 from background_tasks.jobs")
    hands.suspend(job)
    if level == "read committed":
        assert await task.send(job.id, Approved("ann"), connection=own) == Sent(job.id)
        await own.commit()
        assert (await job.refresh()).state is JobState.PROCEEDED
    else:
        with pytest.raises(psycopg.errors.SerializationFailure):
            await task.send(job.id, Approved("ann"), connection=own)
        await own.rollback()
        assert hands.sql(EVENTS) == []


async def test_a_callers_open_transaction_does_not_hold_up_checkpoints_of_the_job(
    task: Any, hands: Hands, own: psycopg.AsyncConnection[Any]
) -> None:
    job = await task.start(Meta("riga"))
    hands.run(job)
    await task.send(job.id, Approved("ann"), connection=own)
    hands.sql("set lock_timeout = '2s'")
    hands.make(job, execution_metadata='{"rows": 5}', checkpoint=1)  # as persist.sql does, for no key update
    await own.commit()


def test_code_that_does_not_await_sends_as_well(migrated_database: str, hands: Hands) -> None:
    app = App(migrated_database)
    task = define(app)
    try:
        job = app.blocking.start(task, Meta("riga"))
        hands.suspend(job)
        with psycopg.connect(migrated_database) as own:
            assert app.blocking.send(task, job.id, Approved("ann"), connection=own) == Sent(job.id)
            assert app.blocking.unread_events(job.id) == 0
        assert app.blocking.unread_events(job.id) == 1
        assert app.blocking.refresh(job).state is JobState.PROCEEDED
        assert app.blocking.send(task, JobQuery(metadata={"shop": "riga"}), Rejected("bob")) == Sent(job.id)
        assert app.blocking.send(task, 10**15, Approved("ann")) == JobNotFound()
        assert json.dumps([event["type"] for _, _, event in hands.sql(EVENTS)]) == '["Approved", "Rejected"]'
    finally:
        app.blocking.close()


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("autocommit", [False, True], ids=["in a transaction", "in autocommit"])
async def test_a_job_that_a_query_finds_is_held_until_the_event_is_stored(
    app: App, task: Any, hands: Hands, monkeypatch: pytest.MonkeyPatch, *, sync: bool, autocommit: bool
) -> None:
    job = await task.start(Meta("riga"))
    make, held = sending.jobs.send, []

    def make_while_held(*arguments: Any, **options: Any) -> Any:
        held.append(hands.sql("select id from background_tasks.jobs for update skip locked") == [])
        return make(*arguments, **options)

    monkeypatch.setattr(sending, "jobs", SimpleNamespace(hold=sending.jobs.hold, send=make_while_held))
    query, event = JobQuery(metadata={"shop": "riga"}), Approved("ann")
    if sync:
        with psycopg.connect(app.dsn, autocommit=autocommit) as connection:
            answer = await asyncio.to_thread(app.blocking.send, task, query, event, connection=connection)
    else:
        async with await psycopg.AsyncConnection.connect(app.dsn, autocommit=autocommit) as own:
            answer = await task.send(query, event, connection=own)
    assert (answer, held) == (Sent(job.id), [True])
    assert len(hands.sql(EVENTS)) == 1
