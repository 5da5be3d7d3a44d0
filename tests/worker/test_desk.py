"""The worker's outbox by itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from perdure import LeaseLost
from perdure.store.settles import Deferral, Finish, Persist, ProgressReport, PutBack, Release
from perdure.worker.batch import PendingPersist
from perdure.worker.desk import Desk

LARGE = b"1" * 1024 * 1024
FINISH = Finish(1, 1, 0, 6, None, None, None, None)
RELEASE = Release(1, 1, 0, 3, None, False, None, None, 0, 0, 0, False, False, None, None, 1)


def pending(job_id: int, *, claim: int = 1) -> PendingPersist:
    attempt: Any = SimpleNamespace(job=SimpleNamespace(id=job_id, attempt=1))
    written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    return PendingPersist(Persist(job_id, claim, 0, b"{}"), cast("Any", attempt), written)


async def test_a_checkpoint_that_comes_when_all_is_closed_is_refused_and_not_kept() -> None:
    desk = Desk()
    desk.close()
    late = pending(7)
    desk.persist(late)
    with pytest.raises(LeaseLost, match="job 7, attempt 1: the lease is lost"):
        await late.written
    assert desk.is_empty


async def test_closing_leaves_nobody_waiting() -> None:
    desk = Desk()
    early = pending(7)
    desk.persist(early)

    async def work(_connection: object) -> None: ...

    errand = asyncio.create_task(desk.run(work, what="work"))
    await asyncio.sleep(0)  # it comes in
    desk.close()
    with pytest.raises(LeaseLost):
        await early.written
    with pytest.raises(LeaseLost, match="the worker has stopped"):
        await errand
    with pytest.raises(LeaseLost, match="the worker has stopped"):
        await desk.run(work, what="work")
    assert desk.is_empty


def test_a_batch_is_sorted_whatever_the_order_of_its_entries() -> None:
    desk = Desk()
    for job_id in (3, 1, 2):
        desk.finish(Finish(job_id, 1, 0, 6, None, None, None, None))
        desk.report_progress(ProgressReport(job_id, 1, b"1"))
        desk.put_back(PutBack(job_id + 10, 1))
        desk.defer(Deferral(job_id + 20, 1, b"why"))
    batch = desk.take()
    kinds = (batch.finishes, batch.progress, batch.put_backs, batch.deferrals)
    assert [[entry.id for entry in entries] for entries in kinds] == [[1, 2, 3], [1, 2, 3], [11, 12, 13], [21, 22, 23]]


async def test_of_two_checkpoints_of_a_job_a_batch_takes_the_later_claims() -> None:
    """An attempt that was left behind may have one on its way beside its successor's."""
    desk = Desk()
    left_behind, another, successor, later = pending(7), pending(3), pending(7, claim=2), pending(7, claim=2)
    for one in (left_behind, another, successor, later):
        desk.persist(one)
    assert desk.take().persists == [another, successor]
    with pytest.raises(LeaseLost, match="job 7, attempt 1: the lease is lost"):
        await left_behind.written
    assert desk.take().persists == [later]


def test_a_batch_is_as_large_as_all_that_its_outcomes_carry() -> None:
    """A message of 1 GB is more than PostgreSQL takes: the connection would break, over and over."""
    carried: list[dict[str, Any]] = [{"execution_metadata": LARGE}, {"error": LARGE}, {"last_error": LARGE}]
    for what in (*carried, {"result": LARGE}):
        desk = Desk()
        for job_id in range(40):
            desk.finish(FINISH._replace(id=job_id, **what))
        assert len(desk.take().finishes) == 16
    for what in carried:
        desk = Desk()
        desk.releases.extend(RELEASE._replace(id=job_id, **what) for job_id in range(40))
        assert len(desk.take().releases) == 16


async def test_every_kind_has_a_share_of_a_batch_however_large_the_others_are() -> None:
    desk = Desk()
    for job_id in range(40):
        desk.finish(FINISH._replace(id=job_id, result=LARGE))
        desk.releases.append(RELEASE._replace(id=job_id + 100, execution_metadata=LARGE))
        checkpoint = pending(job_id + 200)
        desk.persist(replace(checkpoint, entry=checkpoint.entry._replace(execution_metadata=LARGE)))
    batch = desk.take()
    assert [len(entries) for entries in (batch.persists, batch.releases, batch.finishes)] == [6, 5, 5]
    assert batch.outcome_bytes > 10 * len(LARGE)
    assert desk.waiting_outcomes == 70


async def test_of_looks_that_may_take_long_one_is_under_way_at_a_time() -> None:
    desk = Desk()

    async def work(_connection: object) -> None: ...

    tasks = [asyncio.create_task(do(work, what="it")) for do in (desk.look, desk.look, desk.run)]
    await asyncio.sleep(0)  # they come in
    # A look goes first: there may always be an errand.
    assert [errand and errand.is_look for errand in (desk.next_errand(), desk.next_errand())] == [True, False]
    assert desk.next_errand() is None
    desk.looked()
    second = desk.next_errand()
    assert second is not None
    assert second.is_look
    desk.close()
    for task in tasks:
        task.cancel()


async def test_looks_and_questions_go_by_turns() -> None:
    desk = Desk()

    async def work(_connection: object) -> None: ...

    tasks = [asyncio.create_task(do(work, what="it")) for do in (desk.look, desk.look, desk.run, desk.run)]
    await asyncio.sleep(0)  # they come in
    kinds: list[bool] = []
    while (errand := desk.next_errand()) is not None:
        kinds.append(errand.is_look)
        if errand.is_look:
            desk.looked()
    assert kinds == [True, False, True, False]
    desk.close()
    for task in tasks:
        task.cancel()


async def test_a_lane_that_sleeps_takes_the_look_that_waits_for_anothers_end() -> None:
    desk = Desk()

    async def work(_connection: object) -> None: ...

    desk.is_looking = True
    waiting = asyncio.create_task(desk.look(work, what="look"))
    await asyncio.sleep(0)  # it comes in
    sleeping = asyncio.create_task(desk.wait())
    await asyncio.sleep(0)  # it sleeps
    desk.looked()
    await sleeping
    assert desk.next_errand() is not None
    waiting.cancel()


async def test_a_look_takes_what_its_work_takes_and_not_what_it_has_waited() -> None:
    desk, loop = Desk(), asyncio.get_running_loop()

    async def work(_connection: object) -> float:
        began_at_seconds = loop.time()
        await asyncio.sleep(0.02)
        return began_at_seconds

    look = asyncio.create_task(desk.look(work, what="look"))
    await asyncio.sleep(0.05)  # nobody has time for it
    errand = desk.next_errand()
    assert errand is not None
    errand.done.set_result(await errand.work(cast("Any", None)))
    began_at_seconds, took_seconds = await look
    assert 0.02 <= took_seconds <= loop.time() - began_at_seconds + 0.001


def test_news_of_an_older_claim_doesnt_make_a_newer_one_look_done() -> None:
    """Else the search for strays would give back a job whose outcome waits to be written."""
    desk = Desk()
    newer, returned = Finish(1, 6, 0, 6, None, None, None, None), PutBack(2, 9)
    desk.finish(newer)
    desk.put_back(returned)
    desk.settled([newer._replace(claim=5)])
    desk.returned([returned._replace(claim=8)])
    assert {*desk.ids()} == {1, 2}
    desk.settled([newer])
    desk.returned([returned])
    assert not desk.ids()


def test_a_batch_that_got_stuck_makes_the_next_smaller_and_what_gets_through_larger() -> None:
    desk = Desk()
    for job_id in range(40):
        desk.finish(Finish(job_id, 1, 0, 6, None, LARGE, None, None))
    whole = desk.take()
    assert whole.size_bytes > 15 * len(LARGE)
    desk.got_stuck(whole)
    desk.return_batch(whole)
    smaller = desk.take()
    assert 6 * len(LARGE) < smaller.size_bytes < 10 * len(LARGE)
    desk.return_batch(smaller)
    for _ in range(10):
        desk.got_through()
    assert desk.take().size_bytes == whole.size_bytes
    for _ in range(20):
        desk.got_stuck(smaller)
    assert len(desk.take().finishes) == 1  # the least that there is
