"""What a running attempt reads and writes for its own job: events, steps, sleeps, payloads brought up to date."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure.store import leases, running, settles
from perdure.store.running import Sleep, Upgrade
from perdure.store.settles import Persist
from tests.store.entries import to_finish, to_release

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from perdure.store.claims import Claimed
    from tests.store.workbench import Workbench

TOLERANCE = timedelta(seconds=5)
HOUR = timedelta(hours=1)


def _begin_sleep(bench: Workbench, worker: UUID, job: Claimed, seconds: float) -> tuple[datetime, bool] | None:
    begun = bench.run(running.begin_sleep(bench.names, worker, Sleep(job.id, job.claim, "nap", seconds)))
    return None if begun is None else begun[:2]


# --- events ---


def test_events_are_handed_out_in_order_each_once(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job, other = bench.claimed_job(worker), bench.claimed_job(worker)
    for number in range(3):
        bench.send(job.id, b'{"n":%d}' % number)
        bench.send(other.id, b'"another\'s"')
    handed: list[int] = []
    payloads: list[bytes] = []
    while event := bench.run(running.next_event(bench.names, job.id, handed)):
        assert event.version == 1
        handed.append(event.id)
        payloads.append(event.data)
    assert payloads == [b'{"n": 0}', b'{"n": 1}', b'{"n": 2}']
    assert handed == bench.events(job.id)


def test_events_are_consumed_with_the_checkpoint_that_has_used_them_and_no_others(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    first, second, third = (bench.claimed_job(worker) for _ in range(3))
    for _ in range(3):
        for job in (first, second, third):
            bench.send(job.id)
    ids = {job.id: bench.events(job.id) for job in (first, second, third)}
    entries = [
        Persist(first.id, first.claim, 0, b"1", events=tuple(ids[first.id][:2])),
        Persist(second.id, second.claim, 7, b"1", events=tuple(ids[second.id])),  # follows another checkpoint
        Persist(third.id, third.claim, 0, b"1"),
    ]
    assert bench.run(settles.persist(bench.names, worker, entries)) == [first.id, third.id]
    assert [bench.events(job.id) for job in (first, second, third)] == [
        ids[first.id][2:],
        ids[second.id],
        ids[third.id],
    ]
    finish = [to_finish(second, events=tuple(ids[second.id][:1]))]
    assert bench.run(settles.finish(bench.names, worker, finish)) == 1
    release = [to_release(third, checkpoint=1, events=(ids[third.id][1],))]
    assert bench.release(worker, release) == [third.id]
    assert bench.events(second.id) == ids[second.id][1:]
    assert bench.events(third.id) == [ids[third.id][0], ids[third.id][2]]


def test_a_transaction_consumes_events_or_is_aborted_with_them(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    for _ in range(3):
        bench.send(job.id)
    ids = bench.events(job.id)

    def commit(checkpoint: int) -> None:
        with bench.connection.transaction():
            bench.run(running.consume(bench.names, job.id, ids[:2]))
            entry = Persist(job.id, job.claim, checkpoint, b"1")
            bench.run(settles.fence(bench.names, worker, entry, changed=True))

    with pytest.raises(psycopg.Error, match="lease of this attempt is lost"):
        commit(3)
    assert bench.events(job.id) == ids
    commit(0)
    assert bench.events(job.id) == ids[2:]


# --- steps ---


def test_steps_are_stored_with_their_checkpoint(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job, other = bench.claimed_job(worker), bench.claimed_job(worker)
    steps = (("charge", b'{"id":  7}'), ("größe", b'"x"'))
    entries = [
        Persist(job.id, job.claim, 0, b'"one"', steps=steps),
        Persist(other.id, other.claim, 4, b'"one"', steps=steps),  # follows another checkpoint
    ]
    assert bench.run(settles.persist(bench.names, worker, entries)) == [job.id]
    assert bench.run(running.steps(bench.names, job.id)) == dict(steps)  # as they were given
    assert bench.run(running.steps(bench.names, other.id)) == {}


def test_a_step_that_ran_again_replaces_what_is_stored_and_of_two_the_last_counts(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    for checkpoint, results in enumerate(([b"1"], [b"2", b"3"])):
        steps = tuple(("charge", result) for result in results)
        entry = Persist(job.id, job.claim, checkpoint, b"1", steps=steps)
        assert bench.run(settles.persist(bench.names, worker, [entry])) == [job.id]
    assert bench.run(running.steps(bench.names, job.id)) == {"charge": b"3"}


# --- sleeps ---


def test_a_sleep_ends_by_the_databases_clock_and_when_it_would_have_if_begun_again(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    before = bench.job(job.id)
    began = _begin_sleep(bench, worker, job, HOUR.total_seconds())
    assert began is not None
    until, is_over = began
    assert timedelta(0) <= bench.now() + HOUR - until < TOLERANCE
    assert not is_over
    assert _begin_sleep(bench, worker, job, 1.0) == (until, False)
    assert bench.job(job.id) == before  # no checkpoint is spent
    assert bench.release(worker, [to_release(job)]) == [job.id]
    (again,) = bench.claim(worker)
    assert _begin_sleep(bench, worker, again, 1.0) == (until, False)
    bench.sql("update {s}.steps set result = json_build_object('until', clock_timestamp(), 'version', 1)")
    began = _begin_sleep(bench, worker, again, 1.0)
    assert began is not None
    assert began[1]


def test_a_sleep_keeps_what_it_was_begun_with_by_the_latest_try_before_its_end(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)

    def begin(found: bytes | None, version: int) -> tuple[bool, bytes | None, int]:
        sleep = Sleep(job.id, job.claim, "nap", HOUR.total_seconds(), found, version)
        begun = bench.run(running.begin_sleep(bench.names, worker, sleep))
        assert begun is not None
        return begun.is_over, begun.found, begun.version

    assert begin(None, 1) == (False, None, 1)
    assert begin(b'{"page":  1}', 2) == (False, b'{"page":  1}', 2)
    over = "(result::jsonb || jsonb_build_object('until', clock_timestamp()))::json"
    bench.sql(f"update {{s}}.steps set result = {over}")
    assert begin(b"3", 3) == (True, b'{"page": 1}', 2)


@pytest.mark.parametrize(("seconds", "is_over"), [(0.0, True), (-5.0, True), (1e300, False)])
def test_a_sleep_may_be_of_any_length(bench: Workbench, seconds: float, is_over: bool) -> None:  # noqa: FBT001
    worker = bench.register()
    began = _begin_sleep(bench, worker, bench.claimed_job(worker), seconds)
    assert began is not None
    assert began[1] is is_over


@pytest.mark.parametrize("setting", ["set timezone = 'Pacific/Chatham'", "set datestyle = 'German'"])
def test_a_sleep_is_the_same_whatever_a_connection_is_set_to(bench: Workbench, setting: str) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    bench.connection.execute(setting.encode())
    began = _begin_sleep(bench, worker, job, HOUR.total_seconds())
    assert began is not None
    bench.connection.execute("reset all")
    assert _begin_sleep(bench, worker, job, 0.0) == began


def test_a_sleep_that_is_begun_twice_at_once_has_one_end(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job, first = bench.claimed_job(worker), bench.connect()
    with first.transaction():
        one = bench.run(running.begin_sleep(bench.names, worker, Sleep(job.id, job.claim, "nap", 60.0)), first)
        again = running.begin_sleep(bench.names, worker, Sleep(job.id, job.claim, "nap", 90.0))
        assert bench.run(again, bench.connect()) is None  # a lane doesn't wait
    assert one is not None
    assert bench.run(again) == one


# --- upgrades ---


def test_an_upgrade_writes_both_payloads_as_a_checkpoint_that_is_no_progress(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    before = bench.job(job.id)
    upgrade = Upgrade(job.id, job.claim, 0, b'{"new":1}', '{"step":"größer"}'.encode(), 3)
    assert bench.run(running.upgrade(bench.names, worker, upgrade)) is True
    assert bench.job(job.id) == before | {
        "metadata": {"new": 1},
        "execution_metadata": {"step": "größer"},
        "version": 3,
        "checkpoint": 1,
        "claim_checkpoint": 1,
    }
    assert bench.run(running.upgrade(bench.names, worker, upgrade)) is False
    bench.run(leases.remove(bench.names, worker))
    (lost,) = bench.run(leases.lapsed_jobs(bench.names, worker, limit=1))
    assert not lost.persisted
