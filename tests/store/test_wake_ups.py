"""No event's wake-up is lost, in whatever order a sender and the suspension of its job come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure.store import arrays, jobs, settles
from perdure.store.settles import Persist
from tests.store.entries import PENDING, PROCEEDED, RETRYING, SUSPENDED, to_finish, to_release
from tests.store.workbench import gated, release_ids

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from uuid import UUID

    from psycopg import Connection

    from perdure.store.calls import Call
    from perdure.store.claims import Claimed
    from perdure.store.sql import Names
    from tests.store.workbench import Workbench

RUNNING = 2
TIME, EVENT = 3, 2


def _calls(
    names: Names, worker: UUID, suspended: list[Claimed], **change: Any
) -> tuple[Call[list[int]], Call[list[int]]]:
    fields = {"due_seconds": None, "woken_by": TIME} | change
    entries = [to_release(job, SUSPENDED, **fields) for job in suspended]
    return release_ids(names, worker, entries), settles.wake_unread(names, entries)


def _suspend(bench: Workbench, worker: UUID, *suspended: Claimed, **change: Any) -> tuple[list[int], list[int]]:
    """Suspend these jobs as a lane does; returns which were suspended, and which of them went on at once."""
    return _exchange(bench.connect(), *_calls(bench.names, worker, list(suspended), **change))


def _exchange(connection: Connection[Any], *calls: Call[Any]) -> tuple[Any, ...]:
    arrays.register(connection)
    cursors = [connection.cursor() for _ in calls]
    with connection.pipeline():
        for cursor, call in zip(cursors, calls, strict=True):
            cursor.execute(call.statement, call.parameters, binary=True)
    return tuple(call.read(cursor.fetchall()) for cursor, call in zip(cursors, calls, strict=True))


def _is_woken(bench: Workbench, job_id: int) -> None:
    row = bench.job(job_id)
    assert (row["state"], row["woken_by"]) == (PROCEEDED, EVENT)
    assert row["scheduled_at"] <= bench.now()
    assert len(bench.events(job_id)) == 1


# --- before ---


def test_an_event_that_was_sent_before_the_suspension_wakes_the_job(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    assert bench.send(job.id) == RUNNING
    assert _suspend(bench, worker, job) == ([job.id], [job.id])
    _is_woken(bench, job.id)


def test_an_event_that_the_suspension_consumes_does_not_wake_the_job(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    bench.send(job.id)
    (event,) = bench.events(job.id)
    assert _suspend(bench, worker, job, events=(event,)) == ([job.id], [])
    row = bench.job(job.id)
    assert (row["state"], row["scheduled_at"], row["woken_by"], bench.events(job.id)) == (SUSPENDED, None, TIME, [])


def test_an_event_that_was_sent_before_the_first_attempt_is_kept(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job_id = bench.start()
    assert bench.send(job_id) == PENDING
    (job,) = bench.claim(worker)
    assert _suspend(bench, worker, job) == ([job_id], [job_id])
    _is_woken(bench, job_id)


def _is_left_alone(bench: Workbench, job_id: int) -> None:
    row = bench.job(job_id)
    assert (row["state"], row["woken_by"]) == (SUSPENDED, TIME)


def test_an_event_that_its_job_does_not_take_wakes_it_once(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    before, meanwhile = bench.claimed_job(worker), bench.claimed_job(worker)
    bench.send(before.id)
    assert _suspend(bench, worker, before) == ([before.id], [before.id])
    assert _suspend(bench, worker, meanwhile) == ([meanwhile.id], [])
    bench.send(meanwhile.id)
    for job_id in (before.id, meanwhile.id):
        _is_woken(bench, job_id)
    both = sorted(bench.claim(worker), key=lambda job: job.id)
    assert _suspend(bench, worker, *both) == ([before.id, meanwhile.id], [])
    for job_id in (before.id, meanwhile.id):
        _is_left_alone(bench, job_id)
    bench.send(before.id)  # another
    assert [job.id for job in bench.claim(worker)] == [before.id]
    assert len(bench.events(before.id)) == 2


def test_of_two_senders_the_one_of_the_lower_number_wakes_too_though_it_commits_later(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    sender = bench.connect()
    with sender.transaction():
        bench.send(job.id, connection=sender)
        bench.send(job.id)
        # It is the later one that has woken the job.
        bench.sql("update {s}.events set woke = true where job_id = %s", job.id)
    assert bench.sql("select woke from {s}.events order by id") == [{"woke": False}, {"woke": True}]
    assert _suspend(bench, worker, job) == ([job.id], [job.id])


@pytest.mark.parametrize("took", [True, False])
def test_a_job_that_takes_one_event_at_a_time_is_woken_for_the_next_whatever_has_woken_it_before(
    every_bench: Workbench,
    took: bool,  # noqa: FBT001 - a case
) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    bench.send(job.id)
    bench.send(job.id)
    assert _suspend(bench, worker, job)[1] == [job.id]
    (job,) = bench.claim(worker)
    used = {"events": (bench.events(job.id)[0],), "took_events": True} if took else {}
    assert _suspend(bench, worker, job, **used)[1] == ([job.id] if took else [])


# --- meanwhile ---


@pytest.mark.parametrize("commits", [True, False])
def test_a_suspension_steps_over_the_job_of_an_open_sender_and_comes_again(
    every_bench: Workbench,
    commits: bool,  # noqa: FBT001 - a case
) -> None:
    bench, worker = every_bench, every_bench.register()
    job, other = bench.claimed_job(worker), bench.claimed_job(worker)
    sender = bench.connect()
    with sender.transaction(force_rollback=not commits):
        bench.send(job.id, connection=sender)
        assert _suspend(bench, worker, job, other) == ([other.id], [])
        assert bench.job(job.id)["state"] == RUNNING
        # That the row is left isn't for a flag that the worker doesn't know of, nor for good.
        assert bench.run(settles.settlement(bench.names, [job.id]))[job.id].state == RUNNING
    assert _suspend(bench, worker, job) == ([job.id], [job.id] if commits else [])
    if commits:
        _is_woken(bench, job.id)
    else:
        assert bench.job(job.id)["state"] == SUSPENDED


def _between_snapshot_and_lock(bench: Workbench, worker: UUID, job: Claimed, act: Callable[[], None]) -> Future[Any]:
    """Suspend the job; act when the statement has its snapshot, and no lock yet."""
    names, connection = gated(bench.names, "release"), bench.connect()
    with bench.closed_gate():
        result = bench.begin_all(lambda: _exchange(connection, *_calls(names, worker, [job])), connection)
        act()
    return result


def test_an_event_that_is_committed_between_the_suspensions_snapshot_and_its_lock_wakes_the_job(
    every_bench: Workbench,
) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    result = _between_snapshot_and_lock(bench, worker, job, lambda: _noted(bench.send(job.id)))
    assert result.result(timeout=10) == ([job.id], [job.id])
    _is_woken(bench, job.id)


def test_a_sender_that_comes_between_the_suspensions_snapshot_and_its_lock_and_stays_open_holds_it_up(
    every_bench: Workbench,
) -> None:
    bench, worker = every_bench, every_bench.register()
    job, sender = bench.claimed_job(worker), bench.connect()
    with sender.transaction():
        result = _between_snapshot_and_lock(bench, worker, job, lambda: _noted(bench.send(job.id, connection=sender)))
        assert result.result(timeout=10) == ([], [])
    assert _suspend(bench, worker, job) == ([job.id], [job.id])
    _is_woken(bench, job.id)


@pytest.mark.parametrize("statements", [1, 2])
def test_a_sender_waits_for_a_suspension_on_its_way_and_wakes_the_job(every_bench: Workbench, statements: int) -> None:
    bench, worker = every_bench, every_bench.register()
    job, lane = bench.claimed_job(worker), bench.connect()
    calls = _calls(bench.names, worker, [job])
    with lane.transaction():
        for call in calls[:statements]:
            bench.run(call, lane)
        sending = _begin_to_send(bench, job)
        for call in calls[statements:]:
            assert bench.run(call, lane) == []
    assert sending.result(timeout=10) == SUSPENDED
    _is_woken(bench, job.id)


def test_a_sender_that_waited_for_a_suspension_that_failed_has_sent_to_a_running_job(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job, lane = bench.claimed_job(worker), bench.connect()
    with lane.transaction(force_rollback=True):
        for call in _calls(bench.names, worker, [job]):
            bench.run(call, lane)
        sending = _begin_to_send(bench, job)
    assert sending.result(timeout=10) == RUNNING
    assert _suspend(bench, worker, job) == ([job.id], [job.id])
    _is_woken(bench, job.id)


def _begin_to_send(bench: Workbench, job: Claimed) -> Future[int | None]:
    connection = bench.connect()
    return bench.begin_all(lambda: bench.send(job.id, connection=connection), connection)


# --- after ---


def test_an_event_wakes_a_suspended_job_and_whoever_sleeps(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    _suspend(bench, worker, job)
    bench.sql("update {s}.workers set sleeping = true")
    listener = bench.listener(bench.names.work_channel)
    assert bench.send(job.id) == SUSPENDED
    _is_woken(bench, job.id)
    assert bench.heard(listener) == ["default"]
    (again,) = bench.claim(worker)
    assert (again.id, again.woken_by) == (job.id, EVENT)


def test_a_job_that_goes_on_at_once_is_told_to_workers_that_sleep(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job, without = bench.claimed_job(worker, queue="mail"), bench.claimed_job(worker, queue="other")
    bench.send(job.id)
    bench.sql("update {s}.workers set sleeping = true")
    listener = bench.listener(bench.names.work_channel)
    assert _suspend(bench, worker, job, without) == ([job.id, without.id], [job.id])
    assert bench.heard(listener) == ["mail"]


def test_a_job_that_another_suspends_just_now_is_left_to_that_one(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job, lane = bench.claimed_job(worker), bench.connect()
    bench.send(job.id)
    release, wake = _calls(bench.names, worker, [job])
    with lane.transaction():
        bench.run(release, lane)
        bench.connection.execute("set lock_timeout = '2s'")
        assert bench.run(wake) == []
        assert bench.run(wake, lane) == [job.id]
    _is_woken(bench, job.id)


def test_a_suspended_job_that_somebody_has_locked_is_left(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job, holder = bench.claimed_job(worker), bench.connect()
    bench.send(job.id)
    release, wake = _calls(bench.names, worker, [job])
    bench.run(release)
    with holder.transaction():
        holder.execute("select from background_tasks.jobs for update")
        bench.connection.execute("set lock_timeout = '2s'")
        assert bench.run(wake) == []
    assert bench.run(wake) == [job.id]


def test_a_sender_with_an_old_snapshot_is_refused_and_has_sent_nothing(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job, sender = bench.claimed_job(worker), bench.connect()
    sender.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ

    def send_after_the_suspension() -> None:
        with sender.transaction():
            sender.execute("select 1 from background_tasks.jobs")
            _suspend(bench, worker, job)
            bench.send(job.id, connection=sender)

    with pytest.raises(psycopg.errors.SerializationFailure):
        send_after_the_suspension()
    assert (bench.job(job.id)["state"], bench.events(job.id)) == (SUSPENDED, [])


def test_a_job_that_was_let_go_on_for_later_goes_on_at_once_with_an_unread_event(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    bench.sql("update {s}.jobs set proceed_requested = true, proceed_at = clock_timestamp() + interval '1 h'")
    bench.send(job.id)
    entry = to_release(job, PROCEEDED, due_seconds=None, use_proceed=True, woken_by=1)
    calls = release_ids(bench.names, worker, [entry]), settles.wake_unread(bench.names, [entry])
    assert _exchange(bench.connect(), *calls) == ([job.id], [job.id])
    _is_woken(bench, job.id)


# --- sleeps ---


def test_events_do_not_wake_a_job_that_sleeps(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    bench.send(job.id)
    assert _suspend(bench, worker, job, asleep=True, due_seconds=3600.0) == ([job.id], [])
    before = bench.job(job.id)
    assert bench.send(job.id) == SUSPENDED
    assert bench.job(job.id) == before
    assert before["asleep"]
    assert len(bench.events(job.id)) == 2


def test_the_sleep_ends_with_the_next_release(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    _suspend(bench, worker, job, asleep=True, due_seconds=0.0)
    (again,) = bench.claim(worker)
    assert again.woken_by == TIME
    assert bench.release(worker, [to_release(again, RETRYING)]) == [job.id]
    row = bench.job(job.id)
    assert (row["asleep"], row["woken_by"]) == (False, TIME)  # a retry keeps what had woken it


# --- who else meets an open sender ---


def test_an_open_sender_holds_up_neither_checkpoints_nor_claims(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job, waiting, sender = bench.claimed_job(worker), bench.start(), bench.connect()
    bench.connection.execute("set lock_timeout = '2s'")
    with sender.transaction():
        bench.send(job.id, connection=sender)
        bench.send(waiting, connection=sender)
        assert bench.run(settles.persist(bench.names, worker, [Persist(job.id, job.claim, 0, b"1")])) == [job.id]
        assert bench.run(settles.fence(bench.names, worker, Persist(job.id, job.claim, 1, b"1"), changed=True))
        assert [found.id for found in bench.claim(worker)] == [waiting]
    assert len(bench.events(job.id)) == len(bench.events(waiting)) == 1


def test_an_end_waits_for_an_open_sender_so_that_none_has_sent_to_an_ended_job(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job, sender = bench.claimed_job(worker), bench.connect()
    finish = settles.finish(bench.names, worker, [to_finish(job)])
    with sender.transaction():
        assert bench.send(job.id, connection=sender) == RUNNING
        assert bench.run(finish) == 0
    assert bench.run(finish) == 1
    assert len(bench.events(job.id)) == 1  # an operator's retry finds it
    assert bench.send(job.id) is None
    assert len(bench.events(job.id)) == 1


def test_a_sender_that_waited_for_the_end_is_told_so_and_has_sent_nothing(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job, lane = bench.claimed_job(worker), bench.connect()
    with lane.transaction():
        assert bench.run(settles.finish(bench.names, worker, [to_finish(job)]), lane) == 1
        sending = _begin_to_send(bench, job)
    assert sending.result(timeout=10) is None
    assert bench.events(job.id) == []


def test_a_cancel_waits_for_an_open_sender(every_bench: Workbench) -> None:
    bench, job_id = every_bench, every_bench.start()
    sender = bench.connect()
    with sender.transaction():
        bench.send(job_id, connection=sender)
        cancelling = bench.begin(jobs.cancel(bench.names, job_id), bench.connect())
    assert cancelling.result(timeout=10) is True
    assert bench.send(job_id) is None


def _noted(state: int | None) -> None:
    assert state == RUNNING
