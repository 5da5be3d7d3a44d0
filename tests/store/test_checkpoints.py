"""Checkpoints: numbered, each follows the one that it names; a COMMIT is done or not, and never guessed about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure.store import leases, running, settles
from perdure.store.settles import Persist, ProgressReport

if TYPE_CHECKING:
    from tests.store.workbench import Workbench


def test_a_checkpoint_of_an_abandoned_persist_cannot_undo_a_newer_one(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    late = Persist(job.id, job.claim, 0, b'"late"')
    assert bench.run(settles.persist(bench.names, worker, [late._replace(execution_metadata=b'"first"')])) == [job.id]
    assert bench.run(settles.persist(bench.names, worker, [Persist(job.id, job.claim, 1, b'"second"')])) == [job.id]
    assert bench.run(settles.persist(bench.names, worker, [late])) == []
    row = bench.job(job.id)
    assert (row["execution_metadata"], row["checkpoint"]) == ("second", 2)


def test_the_fence_aborts_the_users_transaction(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    bench.sql("create temporary table rows (n int)")
    entry = Persist(job.id, job.claim, 0, b'"new"')
    with bench.connection.transaction():
        bench.sql("insert into rows values (1)")
        assert bench.run(settles.fence(bench.names, worker, entry, changed=True)) is True

    def insert_and_commit() -> None:
        with bench.connection.transaction():
            bench.sql("insert into rows values (2)")
            bench.run(settles.fence(bench.names, worker, entry, changed=True))

    with pytest.raises(psycopg.Error, match="lease of this attempt is lost") as caught:
        insert_and_commit()
    assert caught.value.sqlstate == "PD001"
    assert bench.sql("select n from rows") == [{"n": 1}]
    assert bench.job(job.id)["checkpoint"] == 1


def test_a_fence_without_changes_takes_a_number_all_the_same(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker, execution_metadata=b'{"step":3}')
    bench.run(settles.fence(bench.names, worker, Persist(job.id, job.claim, 0, b'"ignored"'), changed=False))
    row = bench.job(job.id)
    assert (row["execution_metadata"], row["checkpoint"]) == ({"step": 3}, 1)


@pytest.mark.parametrize("commits", [True, False])
def test_taking_a_number_waits_for_the_commit_that_may_have_it(every_bench: Workbench, commits: bool) -> None:  # noqa: FBT001
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    entry = Persist(job.id, job.claim, 0, b'"new"')
    users = bench.connect()
    with users.transaction(force_rollback=not commits):
        bench.run(settles.fence(bench.names, worker, entry, changed=True), users)
        # On its way: nobody can tell yet, and nothing waits for it.
        assert bench.run(running.take_checkpoint_number(bench.names, worker, entry), bench.connect()) is None
        assert bench.run(settles.settlement(bench.names, [job.id]), bench.connect())[job.id].locked
    assert bool(bench.run(running.take_checkpoint_number(bench.names, worker, entry))) is not commits
    row = bench.job(job.id)
    assert row["execution_metadata"] == ("new" if commits else {"step": 0})
    assert row["checkpoint"] >= 1


def test_a_commit_that_arrives_after_its_number_was_taken_is_aborted(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    entry = Persist(job.id, job.claim, 0, b'"late"')
    assert bench.run(running.take_checkpoint_number(bench.names, worker, entry))
    with pytest.raises(psycopg.Error, match="lease of this attempt is lost"):
        bench.run(settles.fence(bench.names, worker, entry, changed=True))
    assert bench.job(job.id)["execution_metadata"] == {"step": 0}


def test_taking_a_number_may_be_repeated_and_never_looks_like_a_commit(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    entry = Persist(job.id, job.claim, 0, b'"late"')
    assert [bench.run(running.take_checkpoint_number(bench.names, worker, entry)) for _ in range(3)] == [2, 2, 2]
    assert bench.run(settles.settlement(bench.names, [job.id]))[job.id].checkpoint != entry.checkpoint + 1
    # The attempt goes on from there, and a late copy of the question changes nothing any more.
    assert bench.run(settles.persist(bench.names, worker, [Persist(job.id, job.claim, 2, b'"new"')])) == [job.id]
    assert bench.run(running.take_checkpoint_number(bench.names, worker, entry)) is None
    assert bench.job(job.id)["checkpoint"] == 3


def test_progress_changes_nothing_else(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    before = bench.job(job.id)
    bench.run(settles.report_progress(bench.names, worker, [ProgressReport(job.id, job.claim, b'{"done":3}')]))
    assert bench.job(job.id) == before | {"progress": {"done": 3}}


@pytest.mark.parametrize("persists", [True, False])
def test_taking_a_number_is_no_progress_of_the_attempt(bench: Workbench, persists: bool) -> None:  # noqa: FBT001 - a case
    worker, lost = bench.register(), bench.register()
    job = bench.claimed_job(lost)
    if persists:
        assert bench.run(settles.persist(bench.names, lost, [Persist(job.id, job.claim, 0, b"1")])) == [job.id]
    entry = Persist(job.id, job.claim, int(persists), b'"late"')
    for _ in range(2):
        assert bench.run(running.take_checkpoint_number(bench.names, lost, entry)) == persists + 2
    bench.sql("update {s}.workers set lease_until = clock_timestamp() where id = %s", lost)
    assert bench.run(leases.sweep(bench.names, worker)).lapsed == [lost]
    (lapsed,) = bench.run(leases.lapsed_jobs(bench.names, lost, limit=10))
    assert lapsed.persisted == persists
