"""The guards of the store's writes: a scene, what spoils it, a write, and that nothing is written.

The cases: `guard_cases.py`. `test_guards.py` runs each; `test_guard_mutants.py` shows that every condition of every
write is needed by one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg

from perdure.store import jobs, leases, running, settles
from perdure.store.calls import Call
from perdure.store.jobs import NewPayloads
from perdure.store.settles import Deferral, Finish, Persist, ProgressReport, PutBack, Release

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from perdure.store.sql import Names
    from tests.store.workbench import Workbench

__all__ = ["CHECKPOINT", "CLAIM", "ENOUGH", "Case", "Scene", "check", "prepare"]

CLAIM, CHECKPOINT, EVENT = 7, 4, 1000


@dataclass
class Scene:
    """Three running jobs of one worker, alike but for their ids; the one in the middle is written to.

    Each has two events, of the same ids, and is in its 103rd attempt; its history has the 2nd and the 3rd.

    Attributes:
        bench: Where they are.
        names: Of the statements to try.
        worker: Who runs them; its lease is valid.
        other: A worker with a valid lease and no jobs.
        job: The job in the middle.
    """

    bench: Workbench
    names: Names
    worker: UUID
    other: UUID
    job: int

    def sql(self, statement: str) -> None:
        """Change the scene: `{job}`, `{worker}` are put in."""
        self.bench.sql(statement.replace("{job}", str(self.job)).replace("{worker}", f"'{self.worker}'"))


@dataclass(frozen=True)
class Case:
    """One way for a write to be wrong.

    Attributes:
        write: The statement.
        invariant: What is tried, in words.
        spoil: SQL that changes the scene before.
        change: What the write says otherwise than would be right.
        written: Whether the job is to be written all the same.
    """

    write: str
    invariant: str
    spoil: str = ""
    change: dict[str, Any] = field(default_factory=dict)
    written: bool = False

    def __str__(self) -> str:
        return f"{self.write}: {self.invariant}"


def prepare(bench: Workbench, names: Names | None = None) -> Scene:
    """Set the scene, in place of whatever was there."""
    # Without its constraint a row can be wrong in one column alone: so each guard is seen by itself.
    bench.sql("alter table {s}.jobs drop constraint if exists held_while_running")
    bench.clear()
    worker, other = bench.register(), bench.register()
    ids = [bench.start() for _ in range(3)]
    bench.claim(worker)
    bench.sql("update {s}.jobs set claim = %s, attempt = 103, checkpoint = %s, claim_checkpoint = 2", CLAIM, CHECKPOINT)
    for place in (-1, 0):
        bench.sql(
            """insert into {s}.events (job_id, id, version, event) overriding system value
                select id, %s, 1, '1' from {s}.jobs""",
            EVENT + place,
        )
        bench.sql(
            """insert into {s}.attempts (job_id, attempt, worker_id, started_at, ending, woken_by)
                select id, %s, worker_id, started_at, 1, 0 from {s}.jobs""",
            3 + place,
        )
    return Scene(bench, names or bench.names, worker, other, ids[1])


def _call(scene: Scene, write: str, change: dict[str, Any]) -> Call[Any]:
    given = {"id": scene.job, "claim": CLAIM, "checkpoint": CHECKPOINT, "worker": scene.worker, "holder": None} | change
    given["worker"], given["holder"] = _worker(scene, given["worker"]), _worker(scene, given["holder"])
    return _CALLS[write](scene.names, SimpleNamespace(**given))


def _finish(names: Names, given: Any) -> Call[int]:
    state = getattr(given, "state", 6)
    entry = Finish(given.id, given.claim, given.checkpoint, state, b'"x"', b"1", b"2", b"line", (EVENT,))
    return settles.finish(names, given.worker, [entry], holder=given.holder)


def _release(names: Names, given: Any) -> Call[list[int]]:
    state = getattr(given, "state", 3)
    place = (given.id, given.claim, given.checkpoint, state)
    asleep = getattr(given, "asleep", False)
    entry = Release(*place, b'"x"', False, None, 0.0, 1, 1, 0, False, False, None, None, 1, 0, asleep, events=(EVENT,))
    return settles.release(names, given.worker, [entry], holder=given.holder)


def _suspended(job_id: int) -> Release:
    return Release(job_id, CLAIM, CHECKPOINT, 4, None, False, None, None, 0, 0, 0, False, False, None, None, 4)


def _proceed(names: Names, given: Any) -> Call[bool]:
    """Proceed; with `modified`, and the checkpoint that this was made of, a modification."""
    is_modified = getattr(given, "modified", False)
    call = jobs.proceed(
        names,
        given.id,
        at=None,
        after=None,
        task=getattr(given, "task", None),
        checkpoint=given.checkpoint if is_modified else None,
        payloads=NewPayloads(b"7", None, 1) if is_modified else None,
    )

    def goes_on(rows: Sequence[tuple[Any, ...]]) -> bool:
        answer = call.read(rows)
        return answer is not None and answer.goes_on

    return Call(call.statement, call.parameters, goes_on)


def _persist(given: Any) -> Persist:
    return Persist(given.id, given.claim, given.checkpoint, b'"x"', (EVENT,), (("charge", b"1"),))


_CALLS: dict[str, Callable[[Names, Any], Call[Any]]] = {
    "finish": _finish,
    "release": _release,
    "persist": lambda names, given: settles.persist(names, given.worker, [_persist(given)]),
    "fence": lambda names, given: settles.fence(names, given.worker, _persist(given), changed=True),
    "take_checkpoint_number": lambda names, given: running.take_checkpoint_number(names, given.worker, _persist(given)),
    "report_progress": lambda names, given: settles.report_progress(
        names, given.worker, [ProgressReport(given.id, given.claim, b"1")]
    ),
    "put_back": lambda names, given: settles.put_back(names, given.worker, [PutBack(given.id, given.claim)]),
    "defer": lambda names, given: settles.defer(names, given.worker, [Deferral(given.id, given.claim, b"why")]),
    "upgrade": lambda names, given: running.upgrade(
        names, given.worker, running.Upgrade(given.id, given.claim, given.checkpoint, b"1", b"2", 2)
    ),
    "begin_sleep": lambda names, given: running.begin_sleep(
        names, given.worker, running.Sleep(given.id, given.claim, "nap", 1.0)
    ),
    "consume": lambda names, given: running.consume(names, given.id, [EVENT]),
    "wake_unread": lambda names, given: settles.wake_unread(names, [_suspended(given.id)]),
    "expire": lambda names, _given: leases.expire(names, error=b"1", last_error=b"line", limit=10),
    "cancel": lambda names, given: jobs.cancel(names, given.id),
    "request_cancel": lambda names, given: jobs.request_cancel(names, given.id),
    "proceed": _proceed,
    "retry": lambda names, given: jobs.retry(names, given.id, attempt=getattr(given, "attempt", None)),
    "renew_lease": lambda names, given: leases.renew(names, given.worker),
    "sleep": lambda names, given: leases.set_sleeping(names, given.worker, sleeping=True),
    "forgive": lambda names, given: leases.forgive(names, given.worker, [given.id]),
}


def _worker(scene: Scene, which: Any) -> Any:
    return {"other": scene.other, "unknown": uuid.uuid4()}.get(which, which)


def check(scene: Scene, case: Case) -> str | None:
    """Try the case; returns what is wrong with the outcome, None when nothing is.

    The write's transaction has begun before the scene is spoiled: what has come to be since counts all the same.
    """
    answer: Any = None
    try:
        with scene.bench.writer.transaction():
            scene.sql(case.spoil or "select 1")
            before = scene.bench.rows()
            answer = scene.bench.run(_call(scene, case.write, case.change), scene.bench.writer)
    except psycopg.Error as error:
        if case.write != "fence" or error.sqlstate != "PD001":
            raise
    changed = scene.bench.changes(before)
    expected = _rows(scene, case.write) if case.written else set()
    if changed != expected:
        return f"wrote to {changed} instead of {expected}"
    if case.write not in {"report_progress", "forgive", "consume", "sleep"} and bool(answer) != case.written:
        return f"answered {answer!r}"
    return None


def _rows(scene: Scene, write: str) -> set[str]:
    """Return the rows that a write writes to when it is right: these, all of them, and no others."""
    return {place.format(job=scene.job, worker=scene.worker) for place in ROWS.get(write, ("jobs {job}",))}


ROWS = {
    "renew_lease": ("workers {worker}",),
    "sleep": ("workers {worker}",),
    "finish": ("jobs {job}", "finished_jobs {job}", f"events {{job}} {EVENT}"),
    "release": ("jobs {job}", f"events {{job}} {EVENT}", "attempts {job} 3", "attempts {job} 103"),
    "persist": ("jobs {job}", f"events {{job}} {EVENT}", "steps {job} charge"),
    "begin_sleep": ("steps {job} nap",),
    "consume": (f"events {{job}} {EVENT}",),
    "wake_unread": ("jobs {job}", f"events {{job}} {EVENT - 1}"),
    "expire": ("jobs {job}", "finished_jobs {job}"),
    "cancel": ("jobs {job}", "finished_jobs {job}"),
    "retry": ("jobs {job}", "finished_jobs {job}", "attempts {job} 3", "attempts {job} 103"),
}
"""Which rows each write writes to, if not to its job's alone."""

ENOUGH = {
    "wake_unread": f"""update {{s}}.jobs set state = 4, worker_id = null, scheduled_at = null;
        update {{s}}.events set woke = true where id = {EVENT}""",
    "expire": """update {s}.jobs set deadline_at = clock_timestamp();
        update {s}.jobs set state = 0, worker_id = null where id = {job}""",
    "proceed": "update {s}.jobs set state = 4, worker_id = null, scheduled_at = null where id = {job}",
    "cancel": "update {s}.jobs set state = 0, worker_id = null where id = {job}",
    "retry": """
        with ended as (delete from {s}.jobs where id = {job} returning *)
        insert into {s}.finished_jobs (id, created_at, finished_at, claim, attempt, retry_number, checkpoint, state,
            priority, queue, task, metadata, execution_metadata, woken_by, version)
        select id, created_at, now(), claim, attempt, 0, checkpoint, 7, 0, queue, task, metadata, execution_metadata,
            0, 1
        from ended""",
    "forgive": "update {s}.jobs set lapsed_worker_id = {worker}, lapses = 2, suspect = true",
}
"""What the scene needs for a write to be right, beside what it is."""
