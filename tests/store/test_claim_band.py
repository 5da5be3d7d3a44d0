"""A claim from one band: what `claim.sql` would take of it, as long as the worker knows of every band that there is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from perdure.store import claims
from perdure.store.claims import Band, Floor, Front

if TYPE_CHECKING:
    from uuid import UUID

    from perdure.store.claims import Claims
    from tests.store.workbench import Workbench

DEFAULT = Band("default", 0)


def claim(
    bench: Workbench,
    worker: UUID,
    *,
    want: int = 10,
    queues: list[str] | None = None,
    band: Band = DEFAULT,
    front: Front = claims.EVERYWHERE,
) -> Claims:
    return bench.run(claims.claim_band(bench.names, worker, want=want, queues=queues, band=band, front=front))


def ids_of(found: Claims) -> list[int]:
    return [job.id for job in found.jobs]


def test_it_takes_due_jobs_of_its_band_in_their_order(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    ids = [bench.start() for _ in range(3)]
    bench.start(after=timedelta(hours=1))
    bench.sql("update {s}.jobs set suspect = true where id = %s", bench.start())
    bench.sql("update {s}.jobs set scheduled_at = scheduled_at - interval '1 min' where id = %s", ids[2])
    assert ids_of(claim(bench, worker, want=2)) == [ids[2], ids[0]]
    assert ids_of(claim(bench, worker)) == [ids[1]]
    assert ids_of(claim(bench, worker)) == []


def test_what_it_takes_is_as_any_claim_has_it(bench: Workbench) -> None:
    worker = bench.register()
    first, second = bench.start(), bench.start()
    (by_band,) = claim(bench, worker, want=1).jobs
    (by_all,) = bench.claim(worker)
    assert (by_band.id, by_all.id) == (first, second)
    assert by_band._replace(id=0, scheduled_at_seconds=0.0) == by_all._replace(id=0, scheduled_at_seconds=0.0)
    rows = [bench.job(job_id) for job_id in (first, second)]
    apart = {"id", "created_at", "scheduled_at", "started_at"}
    assert [{key: value for key, value in row.items() if key not in apart} for row in rows[:1]] == [
        {key: value for key, value in row.items() if key not in apart} for row in rows[1:]
    ]


def test_it_takes_nothing_and_tells_when_there_is_another_band_of_the_workers_queues(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    first = bench.start()
    assert bench.run(claims.bands(bench.names)) == [DEFAULT]
    assert not claim(bench, worker, want=1).other_bands
    (second, third), mail = (bench.start() for _ in range(2)), bench.start(queue="mail")
    assert sorted(bench.run(claims.bands(bench.names))) == [DEFAULT, Band("mail", 0)]
    found = claim(bench, worker)
    assert (ids_of(found), found.other_bands) == ([], True)
    found = claim(bench, worker, queues=["default", "mail"])
    assert (ids_of(found), found.other_bands) == ([], True)
    found = claim(bench, worker, queues=["default"], want=1)
    assert (ids_of(found), found.other_bands) == ([second], False)
    found = claim(bench, worker, queues=["mail", "bulk"], band=Band("mail", 0))
    assert (ids_of(found), found.other_bands) == ([mail], False)
    bench.start(priority=4)
    found = claim(bench, worker, queues=["default"])
    assert (ids_of(found), found.other_bands) == ([], True)
    assert {first, second} < {row["id"] for row in bench.sql("select id from {s}.jobs where state = 2")}
    assert bench.job(third)["state"] == 0


def test_it_begins_at_its_bands_floor(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    first, second, third = (bench.start() for _ in range(3))
    at_seconds = bench.sql(
        "update {s}.jobs set scheduled_at = date_trunc('second', now()) - interval '1 min' "
        "returning extract(epoch from scheduled_at)::float8 as at"
    )[0]["at"]
    floors = [Floor("mail", 0, at_seconds + 3600, 0), Floor("default", 0, at_seconds, second)]
    assert ids_of(claim(bench, worker, front=Front(floors, None))) == [second, third]
    assert ids_of(claim(bench, worker, front=Front(floors[:1], at_seconds + 1))) == []
    assert ids_of(claim(bench, worker, front=Front(floors[:1], None))) == [first]


def test_it_says_when_a_due_job_was_left_out_since_its_row_was_locked(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    locked, *free = (bench.start() for _ in range(3))
    holder = bench.connect()
    with holder.transaction():
        holder.execute("select from background_tasks.jobs where id = %s for update", [locked])
        bench.connection.execute("set lock_timeout = '2s'")
        found = claim(bench, worker, want=1)
        assert (ids_of(found), found.left_out) == (free[:1], False)  # it has what it wanted
        found = claim(bench, worker, want=2)
        assert (ids_of(found), found.left_out) == (free[1:], True)
        assert claim(bench, worker, want=2).left_out
        assert claim(bench, worker, want=1).left_out
    found = claim(bench, worker)
    assert (ids_of(found), found.left_out) == ([locked], False)
    assert not claim(bench, worker).left_out


@pytest.mark.parametrize("statement", ["claim_band", "claim"])
def test_what_it_is_not_to_take_it_neither_takes_nor_says_to_be_left_out(bench: Workbench, statement: str) -> None:
    worker = bench.register()
    passed, due, later, suspect, running, mail, urgent = (bench.start() for _ in range(7))
    [at] = {
        row["at"]
        for row in bench.sql("""update {s}.jobs set scheduled_at = date_trunc('second', now())
        returning extract(epoch from scheduled_at)::float8 as at""")
    }
    for change, job_id in {
        "scheduled_at = scheduled_at - interval '1 h'": passed,
        "scheduled_at = scheduled_at + interval '1 h'": later,
        "suspect = true": suspect,
        "state = 2, worker_id = gen_random_uuid()": running,
        "queue = 'mail'": mail,  # of which there is no band: it is to be found when the bands are healed
        "priority = 4": urgent,
    }.items():
        bench.sql(f"update {{s}}.jobs set {change} where id = %s", job_id)
    of_band = {"band": DEFAULT} if statement == "claim_band" else {}
    front = Front([Floor("default", 0, at, due)], None)
    call = getattr(claims, statement)(bench.names, worker, want=10, queues=None, front=front, **of_band)
    for expected in ([due], []):
        found = bench.run(call)
        assert (ids_of(found), found.left_out) == (expected, False)


@pytest.mark.parametrize("spoil", ["timeline = 'another'", "id = gen_random_uuid()"])
def test_a_worker_that_is_not_registered_in_this_life_gets_nothing(bench: Workbench, spoil: str) -> None:
    worker = bench.register()
    bench.start()
    bench.sql(f"update {{s}}.workers set {spoil}")
    assert ids_of(claim(bench, worker)) == []
    assert bench.claim(worker) == []  # nor by claim.sql
