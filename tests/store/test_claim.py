"""Claims: in order, no more than wanted, each job once; what isn't due or is locked costs nothing and blocks nobody."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from perdure.store import claims, leases
from perdure.store.claims import Band, Floor, Front
from tests.store.workbench import gated

if TYPE_CHECKING:
    from tests.store.workbench import Workbench


def _due(bench: Workbench, job_id: int, seconds_ago: float) -> None:
    due = "clock_timestamp() - %s * interval '1 s'"
    bench.sql(f"update {{s}}.jobs set scheduled_at = {due} where id = %s", seconds_ago, job_id)


def _claim_one_by_one(bench: Workbench) -> list[int]:
    worker = bench.register()
    order: list[int] = []
    while claimed := bench.claim(worker, want=1):
        order += [job.id for job in claimed]
    return order


def test_larger_priorities_run_first_then_due_time_then_id(every_bench: Workbench) -> None:
    bench = every_bench
    jobs: list[tuple[int, float, int]] = []
    choice = random.Random(3)
    for _ in range(60):
        priority, seconds_ago = choice.choice((-100, -1, 0, 7, 100)), float(choice.randrange(1, 5))
        job_id = bench.start(priority=priority, queue=choice.choice(("mail", "default", "zip")))
        jobs.append((priority, seconds_ago, job_id))
    for _priority, seconds_ago, job_id in jobs:
        bench.sql(
            "update {s}.jobs set scheduled_at = '2026-01-01+00'::timestamptz - %s * interval '1 s' where id = %s",
            seconds_ago,
            job_id,
        )
    expected = [job_id for _, _, job_id in sorted(jobs, key=lambda job: (-job[0], -job[1], job[2]))]
    with bench.connection.transaction(force_rollback=True):
        assert _claim_one_by_one(bench) == expected
    assert [job.id for job in bench.claim(bench.register())] == expected  # in one claim as well


@pytest.mark.parametrize("want", [1, 2, 5, 9, 10, 11, 500])
def test_a_claim_takes_the_first_in_order_and_never_more_than_wanted(bench: Workbench, want: int) -> None:
    ids: dict[int, list[int]] = {1: [], 0: []}
    for number in range(10):
        priority = number % 2
        ids[priority].append(bench.start(priority=priority, queue=f"q{number % 3}"))
    claimed = {job.id for job in bench.claim(bench.register(), want=want)}
    assert claimed == set([*ids[1], *ids[0]][:want])
    running = bench.sql("select count(*) as count from {s}.jobs where state = 2")[0]["count"]
    assert running == len(claimed)


def test_a_claim_writes_who_runs_the_job_and_counts_it(bench: Workbench) -> None:
    worker = bench.register()
    job_id = bench.start(metadata=b'{"n":1}', execution_metadata=b'{"step":2}', task="import", queue="mail")
    bench.sql(
        """update {s}.jobs set claim = 4, attempt = 3, checkpoint = 9, state = 3, scheduler_retries = 2,
            retry_number = 1, woken_by = 2, version = 3"""
    )
    before = bench.job(job_id)
    (claimed,) = bench.claim(worker)
    due_at = before["scheduled_at"].timestamp()
    assert claimed == (job_id, "import", 5, 4, 1, 2, 0, 9, "mail", b'{"n": 1}', b'{"step": 2}', 0, due_at, 2, 3, None)
    after = bench.job(job_id)
    started_at = after["started_at"]
    assert started_at > before["created_at"]
    assert after == before | {
        "state": 2,
        "worker_id": worker,
        "claim": 5,
        "attempt": 4,
        "claim_checkpoint": 9,
        "started_at": started_at,
    }


@pytest.mark.parametrize("state", [0, 3, 4, 5])
def test_every_state_that_waits_for_its_time_is_claimed_when_due(bench: Workbench, state: int) -> None:
    job_id = bench.start()
    bench.sql("update {s}.jobs set state = %s", state)
    assert [job.id for job in bench.claim(bench.register())] == [job_id]


def test_what_is_not_due_is_not_claimed(bench: Workbench) -> None:
    worker = bench.register()
    bench.start(after=timedelta(hours=1))
    suspended, running, enqueued = bench.start(), bench.start(), bench.start()
    bench.sql("update {s}.jobs set state = 4, scheduled_at = null where id = %s", suspended)
    bench.sql("update {s}.jobs set state = 2, worker_id = gen_random_uuid() where id = %s", running)
    bench.sql("update {s}.jobs set state = 1 where id = %s", enqueued)
    assert bench.claim(worker) == []
    due = bench.start()
    assert [job.id for job in bench.claim(worker)] == [due]


def test_due_is_asked_of_the_databases_clock(bench: Workbench) -> None:
    job_id = bench.start(after=timedelta(hours=1))
    worker = bench.register()
    assert bench.claim(worker) == []
    _due(bench, job_id, 0)
    assert [job.id for job in bench.claim(worker)] == [job_id]


def test_a_claim_passes_over_locked_rows_without_waiting(every_bench: Workbench) -> None:
    bench = every_bench
    ids = [bench.start() for _ in range(5)]
    holder = bench.connect()
    with holder.transaction():
        holder.execute("select from background_tasks.jobs where id = any(%s) for update", [ids[:2]])
        bench.connection.execute("set lock_timeout = '2s'")
        assert {job.id for job in bench.claim(bench.register(), want=2)} == set(ids[2:4])
    assert {job.id for job in bench.claim(bench.register())} == {*ids[:2], ids[4]}


def test_a_claim_says_when_a_due_job_was_left_out_since_its_row_was_locked(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()

    def left_out(want: int = 5, queues: list[str] | None = None) -> bool:
        return bench.run(claims.claim(bench.names, worker, want=want, queues=queues)).left_out

    bench.start(after=timedelta(hours=1))
    bench.sql("update {s}.jobs set suspect = true where id = %s", bench.start())
    assert not left_out()  # nothing is due but a suspect
    locked = [bench.start(queue="mail"), bench.start(queue="bulk")]
    free = [bench.start(queue="mail"), bench.start(queue="mail")]
    holder = bench.connect()
    with holder.transaction():
        holder.execute("select from background_tasks.jobs where id = any(%s) for update", [locked])
        assert not left_out(want=1)  # it has what it wanted
        assert not left_out(queues=["default"])  # others' queues aren't its concern
        assert left_out()
        assert left_out(queues=["bulk"])
    assert {job.id for job in bench.claim(worker)} == set(locked)
    assert not left_out()
    assert [bench.job(job_id)["state"] for job_id in free] == [2, 2]


def test_queues_restrict_a_claim(every_bench: Workbench) -> None:
    bench = every_bench
    mail, bulk, default = bench.start(queue="mail"), bench.start(queue="bulk", priority=9), bench.start()
    worker = bench.register()
    assert bench.claim(worker, queues=["nothing"]) == []
    assert bench.claim(worker, queues=[]) == []
    assert [job.id for job in bench.claim(worker, want=1, queues=["mail", "default", "mail"])] == [mail]
    assert {job.id for job in bench.claim(worker, queues=["default", "bulk"])} == {bulk, default}


def test_without_queues_every_queue_is_served(bench: Workbench) -> None:
    ids = {bench.start(queue=queue) for queue in ("a", "b", 'we"ird %s', "ü")}
    assert {job.id for job in bench.claim(bench.register(), queues=None)} == ids


@pytest.mark.parametrize("queues", [1, 3])
def test_several_claimers_at_once_share_all_jobs_and_no_job_twice(every_bench: Workbench, queues: int) -> None:
    bench = every_bench
    ids = {bench.start(queue=f"q{number % queues}", priority=number % 2) for number in range(60)}
    gate = gated(bench.names, "claim", "order by jobs.scheduled_at, jobs.id")
    workers = [bench.register() for _ in range(4)]
    connections = [bench.connect() for _ in workers]
    with bench.closed_gate():  # all take their snapshot while every job is free
        begun = [
            bench.begin(claims.claim(gate, worker, want=25, queues=None), connection)
            for worker, connection in zip(workers, connections, strict=True)
        ]
    claimed = [job.id for claim in begun for job in claim.result(timeout=10).jobs]
    assert len(claimed) == len(set(claimed))
    # Who came last may have found rows locked that their claimer then left; they stay due.
    while more := bench.claim(workers[0]):
        claimed += [job.id for job in more]
    assert sorted(claimed) == sorted(ids)
    running = bench.sql("select id, claim, attempt, state from {s}.jobs")
    assert all((row["claim"], row["attempt"], row["state"]) == (1, 1, 2) for row in running)


@pytest.mark.parametrize(
    "change",
    [
        "state = 2, worker_id = gen_random_uuid(), claim = 9",
        "state = 4, scheduled_at = null",
        "scheduled_at = clock_timestamp() + interval '1 h'",
        "suspect = true",
        "queue = 'other'",
        "priority = 5",
    ],
)
def test_a_job_that_changed_between_the_snapshot_and_the_lock_is_not_claimed(
    every_bench: Workbench, change: str
) -> None:
    bench = every_bench
    changed, untouched = bench.start(), bench.start()
    gate = gated(bench.names, "claim", "order by jobs.scheduled_at, jobs.id")
    with bench.closed_gate():
        claim = bench.begin(claims.claim(gate, bench.register(), want=5, queues=None), bench.connect())
        bench.sql(f"update {{s}}.jobs set {change} where id = %s", changed)
        before = bench.job(changed)
    assert [job.id for job in claim.result(timeout=10).jobs] == [untouched]
    assert bench.job(changed) == before


def test_a_job_that_was_cancelled_between_the_snapshot_and_the_lock_is_not_claimed(every_bench: Workbench) -> None:
    bench = every_bench
    gone, untouched = bench.start(), bench.start()
    gate = gated(bench.names, "claim", "order by jobs.scheduled_at, jobs.id")
    with bench.closed_gate():
        claim = bench.begin(claims.claim(gate, bench.register(), want=5, queues=None), bench.connect())
        bench.sql("delete from {s}.jobs where id = %s", gone)
    assert [job.id for job in claim.result(timeout=10).jobs] == [untouched]


# --- suspects ---


def test_suspects_are_claimed_apart_and_one_by_one(every_bench: Workbench) -> None:
    bench = every_bench
    suspects, others = [bench.start(), bench.start()], [bench.start(), bench.start()]
    bench.sql("update {s}.jobs set suspect = true where id = any(%s)", suspects)
    _due(bench, suspects[1], 60)
    worker = bench.register()
    assert {job.id for job in bench.claim(worker)} == set(others)
    for suspect in reversed(suspects):
        (claimed,) = bench.run(claims.claim_suspect(bench.names, worker, queues=None))
        assert (claimed.id, claimed.claim, claimed.attempt) == (suspect, 1, 1)
        assert bench.job(suspect)["worker_id"] == worker
    assert bench.run(claims.claim_suspect(bench.names, worker, queues=None)) == []


def test_a_suspect_waits_for_its_time_its_queue_and_its_lock(bench: Workbench) -> None:
    worker = bench.register()
    job_id = bench.start(queue="mail", after=timedelta(hours=1))
    bench.sql("update {s}.jobs set suspect = true")
    assert bench.run(claims.claim_suspect(bench.names, worker, queues=None)) == []
    _due(bench, job_id, 1)
    assert bench.run(claims.claim_suspect(bench.names, worker, queues=["default"])) == []
    holder = bench.connect()
    with holder.transaction():
        holder.execute("select from background_tasks.jobs for update")
        assert bench.run(claims.claim_suspect(bench.names, worker, queues=["mail"])) == []
    assert len(bench.run(claims.claim_suspect(bench.names, worker, queues=["mail"]))) == 1


# --- bands ---


def test_each_queue_and_priority_gets_its_band_with_its_first_job(bench: Workbench) -> None:
    for _ in range(3):
        bench.start(queue="mail", priority=3)
        bench.start(queue="mail")
    bands = bench.sql("select queue, priority from {s}.bands order by priority")
    assert bands == [{"queue": "mail", "priority": 0}, {"queue": "mail", "priority": 3}]


def test_a_start_never_waits_for_another_starters_transaction(bench: Workbench) -> None:
    other = bench.connect()
    with other.transaction():
        other.execute("insert into background_tasks.bands values ('mail', 0)")
        bench.connection.execute("set lock_timeout = '1s'")
        job_id = bench.start(queue="mail")
    assert bench.sql("select queue, priority from {s}.bands") == [{"queue": "mail", "priority": 0}] * 2
    # Twice the same band: each job once all the same.
    assert [job.id for job in bench.claim(bench.register())] == [job_id]


def test_a_job_without_a_band_is_claimed_once_the_bands_are_healed(every_bench: Workbench) -> None:
    bench = every_bench
    ids = [bench.start(queue=queue, priority=priority) for queue in ("a", "b") for priority in (-3, 0, 4)]
    bench.sql("delete from {s}.bands where not (queue = 'a' and priority = 0)")
    worker = bench.register()
    assert [job.id for job in bench.claim(worker)] == [ids[1]]
    assert bench.claim(worker) == []
    assert bench.run(leases.heal_bands(bench.names)) == [("a", -3), ("a", 4), ("b", -3), ("b", 0), ("b", 4)]
    assert bench.run(leases.heal_bands(bench.names)) == []
    assert {job.id for job in bench.claim(worker)} == {ids[0], *ids[2:]}


def test_a_claim_begins_at_its_bands_floor(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    first, second, third = (bench.start() for _ in range(3))
    other = bench.start(queue="mail")
    at_seconds = bench.sql(
        "update {s}.jobs set scheduled_at = date_trunc('second', now()) - interval '1 min' "
        "returning extract(epoch from scheduled_at)::float8 as at"
    )[0]["at"]
    urgent = bench.start(priority=1)
    _due(bench, urgent, 3600)
    floor = Floor("default", 0, at_seconds, second)
    front = Front([floor], None)
    found = bench.run(claims.claim(bench.names, worker, want=10, queues=None, front=front))
    assert {job.id for job in found.jobs} == {second, third, other, urgent}
    assert not found.left_out
    assert {job.id for job in bench.run(claims.claim(bench.names, worker, want=10, queues=None)).jobs} == {first}


def test_a_claim_begins_at_another_floor_in_the_bands_of_which_nothing_is_known(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    known, before, behind = bench.start(), bench.start(queue="mail"), bench.start(queue="mail")
    bench.sql("update {s}.jobs set scheduled_at = now() - interval '1 min' where id = any(%s)", [known, before])
    others_at = bench.sql("select extract(epoch from now() - interval '30 s')::float8 as at")[0]["at"]
    front = Front([Floor("default", 0, 0.0, 0)], others_at)
    found = bench.run(claims.claim(bench.names, worker, want=10, queues=None, front=front))
    assert {job.id for job in found.jobs} == {known, behind}
    assert not found.left_out


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_claim_tells_when_it_was_made_by_the_databases_clock(every_bench: Workbench, count: int) -> None:
    bench, worker = every_bench, every_bench.register()
    due = [bench.start() for _ in range(count)]
    band = Band("default", 0)
    for call in (
        claims.claim(bench.names, worker, want=2, queues=None),
        claims.claim_band(bench.names, worker, want=2, queues=None, band=band),
    ):
        began_at = bench.now()
        found = bench.run(call)
        assert began_at.timestamp() <= found.asked_at_seconds <= bench.now().timestamp()
        assert [job.id for job in found.jobs] == due[:2]
        due = due[2:]
