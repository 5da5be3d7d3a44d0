"""Checks of writes to several rows, or of what they answer: each asserts on an empty schema, by the names it is given.

`test_guards.py` runs each; `test_guard_mutants.py` shows that every condition of these writes is needed by its check.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from perdure.store import claims, jobs, leases
from tests.store.workbench import gated

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.store.sql import Names
    from tests.store.workbench import Workbench

__all__ = ["CHECKS"]

_SPOILT_LEASES = ("timeline = '00000000'", "lapsed_at = clock_timestamp()", "lease_until = clock_timestamp()")
_RUNNING = "state = 2, worker_id = gen_random_uuid()"


def _await(bench: Workbench, names: Names) -> None:
    """It marks the jobs that it names and that aren't marked; it answers those of them that somebody has locked."""
    marked, locked, other = bench.start(), bench.start(), bench.start()
    before = bench.rows()
    assert bench.run(jobs.await_end(names, [marked])) == []
    assert bench.changes(before) == {f"jobs {marked}"}
    before = bench.rows()
    with bench.writer.transaction():
        bench.writer.execute("select from background_tasks.jobs where id = %s for update", [locked])
        assert bench.run(jobs.await_end(names, [marked, locked])) == [locked]
        assert bench.changes(before) == set()
    assert bench.run(jobs.await_end(names, [marked, locked])) == []
    assert bench.changes(before) == {f"jobs {locked}"}
    assert not bench.job(other)["awaited"]


def _heal_bands(bench: Workbench, names: Names) -> None:
    """It adds the bands of jobs that are to be claimed from one, and no others, before or behind these."""
    for unclaimable in (_RUNNING, "state = 4, scheduled_at = null", "suspect = true"):
        bench.clear()
        for queue in ("a", "b", "c", "known"):
            bench.start(queue=queue)
        bench.sql(f"update {{s}}.jobs set {unclaimable} where queue in ('a', 'c')")
        bench.sql("delete from {s}.bands where queue <> 'known'")
        for priority in (0, 1):
            bench.start(queue="many", priority=priority)
        bench.sql("delete from {s}.bands where queue = 'many' and priority = 1")
        assert bench.run(leases.heal_bands(names)) == [("b", 0), ("many", 1)], unclaimable
        assert bench.run(leases.heal_bands(names)) == [], unclaimable


def _revive(bench: Workbench, names: Names) -> None:
    """It makes those due that wait for their code for longer, of the tasks that it names; it counts these alone."""
    waiting, another, never_deferred, runs, due, claimed, come_due = (bench.start(task="known") for _ in range(7))
    bench.sql("update {s}.jobs set unreadable = 3, scheduled_at = clock_timestamp() + interval '1 h'")
    bench.sql("update {s}.jobs set task = 'another' where id = %s", another)
    bench.sql("update {s}.jobs set unreadable = 0 where id = %s", never_deferred)
    bench.sql(f"update {{s}}.jobs set {_RUNNING} where id = any(%s)", [runs, claimed, come_due])
    bench.sql("update {s}.jobs set scheduled_at = clock_timestamp() where id = %s", due)
    before = bench.rows()
    assert bench.run(leases.revive(names, ["known", "else"], limit=10)) == (1, 1)
    assert bench.changes(before) == {f"jobs {waiting}"}
    assert bench.job(waiting)["scheduled_at"] <= bench.now()
    _revive_what_has_changed(bench, names, claimed, come_due)


def _revive_what_has_changed(bench: Workbench, names: Names, claimed: int, come_due: int) -> None:
    """What waited as the statement began, and doesn't when it is locked, is counted and left as it is."""
    bench.sql("update {s}.jobs set state = 0, worker_id = null where id = any(%s)", [claimed, come_due])
    gate = gated(names, "revive", "for no key update")
    with bench.closed_gate():
        answer = bench.begin(leases.revive(gate, ["known"], limit=10), bench.writer)
        bench.sql(f"update {{s}}.jobs set {_RUNNING} where id = %s", claimed)
        bench.sql("update {s}.jobs set scheduled_at = clock_timestamp() where id = %s", come_due)
        before = bench.rows()
    assert answer.result(timeout=10) == (0, 2)
    assert bench.changes(before) == set()


def _claim_suspect(bench: Workbench, names: Names) -> None:
    """It takes one due suspect of the queues, for a worker whose lease is valid, in this life of the database."""
    suspect, later, running, elsewhere, innocent = (bench.start() for _ in range(5))
    bench.sql("update {s}.jobs set suspect = true where id <> %s", innocent)
    bench.sql("update {s}.jobs set scheduled_at = clock_timestamp() - interval '1 h' where id <> %s", suspect)
    bench.sql("update {s}.jobs set scheduled_at = clock_timestamp() + interval '1 h' where id = %s", later)
    bench.sql(f"update {{s}}.jobs set {_RUNNING} where id = %s", running)
    bench.sql("update {s}.jobs set queue = 'elsewhere' where id = %s", elsewhere)
    worker, *strangers = (bench.register() for _ in range(4))
    before = bench.rows()
    with bench.writer.transaction():
        for stranger, spoil in zip(strangers, _SPOILT_LEASES, strict=True):
            bench.sql(f"update {{s}}.workers set {spoil} where id = %s", stranger)
        for nobody in (*strangers, uuid.uuid4()):
            assert bench.run(claims.claim_suspect(names, nobody, queues=["default"]), bench.writer) == []
    assert bench.changes(before) == {f"workers {stranger}" for stranger in strangers}
    before = bench.rows()
    assert [job.id for job in bench.run(claims.claim_suspect(names, worker, queues=["default"]))] == [suspect]
    assert bench.run(claims.claim_suspect(names, worker, queues=["default"])) == []
    assert bench.changes(before) == {f"jobs {suspect}"}
    assert bench.job(suspect)["worker_id"] == worker


def _start_many(bench: Workbench, names: Names) -> None:
    """It adds the band of its jobs where that isn't there, however many others there are."""
    places = [("mail", 3), ("mail", 0), ("bulk", 3), ("mail", 3)]
    for queue, priority in places:
        fixed = {"task": "task", "at": None, "after": None, "deadline": None, "version": 1, "notify": False}
        payloads: Any = {"metadata": [b"1", b"2"], "execution_metadata": b"null"}
        bench.run(jobs.start_many(names, queue=queue, priority=priority, **payloads, **fixed))
    bands = [(row["queue"], row["priority"]) for row in bench.sql("select queue, priority from {s}.bands")]
    assert sorted(bands) == [("bulk", 3), ("mail", 0), ("mail", 3)]


CHECKS: dict[str, Callable[[Workbench, Names], None]] = {
    "await": _await,
    "claim_suspect": _claim_suspect,
    "heal_bands": _heal_bands,
    "revive": _revive,
    "start_many": _start_many,
}
