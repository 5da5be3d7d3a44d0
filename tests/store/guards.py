"""The guards of the store's writes, as cases: a scene, what spoils it, a write, and that nothing is written.

`test_guards.py` runs each case; `test_guard_mutants.py` shows that every condition of every write is needed by one.
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

__all__ = ["CASES", "ENOUGH", "WRITES", "Case", "Scene", "check", "prepare"]

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
    entry = Release(*place, b'"x"', False, None, 0.0, 1, 1, 0, False, False, None, None, 1, events=(EVENT,))
    return settles.release(names, given.worker, [entry], holder=given.holder)


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
    "take_checkpoint_number": lambda names, given: settles.take_checkpoint_number(names, given.worker, _persist(given)),
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
    "wake_unread": lambda names, given: settles.wake_unread(names, [given.id]),
    "expire": lambda names, _given: leases.expire(names, error=b"1", last_error=b"line", limit=10),
    "cancel": lambda names, given: jobs.cancel(names, given.id),
    "request_cancel": lambda names, given: jobs.request_cancel(names, given.id),
    "proceed": _proceed,
    "retry": lambda names, given: jobs.retry(names, given.id, attempt=getattr(given, "attempt", None)),
    "renew_lease": lambda names, given: leases.renew(names, given.worker),
    "forgive": lambda names, given: leases.forgive(names, given.worker, [given.id]),
}


def _worker(scene: Scene, which: Any) -> Any:
    return {"other": scene.other, "unknown": uuid.uuid4()}.get(which, which)


def check(scene: Scene, case: Case) -> str | None:
    """Try the case; returns what is wrong with the outcome, None when nothing is."""
    scene.sql(case.spoil or "select 1")
    before = scene.bench.rows()
    try:
        answer = scene.bench.run(_call(scene, case.write, case.change))
    except psycopg.Error as error:
        answer = None
        if case.write != "fence" or error.sqlstate != "PD001":
            raise
    changed = scene.bench.changes(before)
    expected = _rows(scene, case.write) if case.written else set()
    if changed != expected:
        return f"wrote to {changed} instead of {expected}"
    if case.write not in {"report_progress", "forgive", "consume"} and bool(answer) != case.written:
        return f"answered {answer!r}"
    return None


def _rows(scene: Scene, write: str) -> set[str]:
    """Return the rows that a write writes to when it is right: these, all of them, and no others."""
    places = {"renew_lease": [f"workers {scene.worker}"]}.get(write) or [
        place.format(job=scene.job) for place in ROWS.get(write, ("jobs {job}",))
    ]
    return set(places)


ROWS = {
    "finish": ("jobs {job}", "finished_jobs {job}", f"events {{job}} {EVENT}"),
    "release": ("jobs {job}", f"events {{job}} {EVENT}", "attempts {job} 3", "attempts {job} 103"),
    "persist": ("jobs {job}", f"events {{job}} {EVENT}", "steps {job} charge"),
    "begin_sleep": ("steps {job} nap",),
    "consume": (f"events {{job}} {EVENT}",),
    "expire": ("jobs {job}", "finished_jobs {job}"),
    "cancel": ("jobs {job}", "finished_jobs {job}"),
    "retry": ("jobs {job}", "finished_jobs {job}", "attempts {job} 103"),
}
"""Which rows each write writes to, if not to its job's alone."""

ENOUGH = {
    "wake_unread": "update {s}.jobs set state = 4, worker_id = null, scheduled_at = null",
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

_ATTEMPT = (
    "finish",
    "release",
    "persist",
    "fence",
    "take_checkpoint_number",
    "report_progress",
    "put_back",
    "defer",
    "upgrade",
    "begin_sleep",
)
_NUMBERED = ("finish", "release", "persist", "fence", "take_checkpoint_number", "upgrade")
_LEASED = ("finish", "release", "persist", "fence", "upgrade", "begin_sleep")
WRITES = (
    *_ATTEMPT,
    "consume",
    "wake_unread",
    "expire",
    "cancel",
    "request_cancel",
    "proceed",
    "retry",
    "renew_lease",
    "forgive",
)


def _cases() -> list[Case]:
    cases = [Case(write, "what is right is written", ENOUGH.get(write, ""), written=True) for write in WRITES]
    cases += [
        Case(write, "a job that isn't there", ENOUGH.get(write, ""), {"id": 2**40})
        for write in WRITES
        if write not in {"renew_lease", "expire"}
    ]
    for write in _ATTEMPT:
        cases += [
            Case(write, "an earlier claim", change={"claim": CLAIM - 1}),
            Case(write, "a later claim", change={"claim": CLAIM + 1}),
            Case(write, "another worker", change={"worker": "other"}),
            Case(
                write,
                "a rescued job that nobody has claimed yet",
                "update {s}.jobs set state = 0, worker_id = null where id = {job}",
            ),
        ]
        cases += [
            Case(write, f"a job in state {state}", f"update {{s}}.jobs set state = {state} where id = {{job}}")
            for state in (0, 1, 3, 4, 5)
        ]
    for write in _NUMBERED:
        cases += [
            Case(write, "an earlier checkpoint", change={"checkpoint": CHECKPOINT - 1}),
            Case(write, "a later checkpoint", change={"checkpoint": CHECKPOINT + 1}),
        ]
    for write in _LEASED:
        cases += [Case(write, f"a lease that {how}", spoil) for how, spoil in _SPOILT_LEASES.items()]
    return (
        cases + _flag_cases() + _rescue_cases() + _client_cases() + _lease_cases() + _event_cases() + _deadline_cases()
    )


_LAPSE = "update {s}.workers set lapsed_at = clock_timestamp()"
_SPOILT_LEASES = {
    "is marked as lapsed": _LAPSE + " where id = {worker}",
    "has run out, unmarked": "update {s}.workers set lease_until = clock_timestamp() where id = {worker}",
    "was given back": "delete from {s}.workers where id = {worker}",
}


def _flag_cases() -> list[Case]:
    cancel = "update {s}.jobs set cancel_requested = true where id = {job}"
    proceed = "update {s}.jobs set proceed_requested = true where id = {job}"
    return [
        *[Case("finish", f"a cancel request, and state {s}", cancel, {"state": s}, written=True) for s in (6, 8)],
        Case("finish", "a failure that doesn't know of a cancel request", cancel, {"state": 7}),
        Case("finish", "a failure without a cancel request", change={"state": 7}, written=True),
        *[
            Case("release", f"state {state} that doesn't know of a cancel request", cancel, {"state": state})
            for state in (0, 3, 4, 5)
        ],
        Case("release", "a suspension that doesn't know of a proceed", proceed, {"state": 4}),
        *[Case("release", f"a proceed, and state {s}", proceed, {"state": s}, written=True) for s in (0, 3, 5)],
        Case("put_back", "a cancel request", cancel),
        Case("defer", "a cancel request", cancel),
        *[
            Case(write, "a cancel request and a proceed don't matter", f"{cancel}; {proceed}", written=True)
            for write in ("persist", "fence", "take_checkpoint_number", "report_progress", "upgrade", "begin_sleep")
        ],
    ]


def _rescue_cases() -> list[Case]:
    mine_lapsed = _LAPSE + " where id = {worker}"
    none_left = "update {s}.workers set lease_until = clock_timestamp()"
    return [
        case
        for write in ("finish", "release")
        for case in (
            Case(write, "a rescue by a worker with a lease", mine_lapsed, {"holder": "other"}, written=True),
            Case(write, "a rescue by a worker whose lease is marked", _LAPSE, {"holder": "other"}),
            Case(write, "a rescue by a worker whose lease has run out", none_left, {"holder": "other"}),
            Case(write, "a rescue by a worker that isn't registered", mine_lapsed, {"holder": "unknown"}),
        )
    ]


def _client_cases() -> list[Case]:
    def state(number: int, more: str = "") -> str:
        return f"update {{s}}.jobs set state = {number}, worker_id = null {more} where id = {{job}}"

    due_then = ", scheduled_at = clock_timestamp() + interval '1 h'"
    return [
        *[Case("cancel", f"a job in state {number}", state(number), written=True) for number in (0, 1, 3, 4, 5)],
        Case("cancel", "a running job"),
        *[Case("request_cancel", f"a job in state {number}", state(number)) for number in (0, 1, 3, 4, 5)],
        *[Case("proceed", f"a job in state {number}", state(number, due_then)) for number in (0, 1, 3)],
        Case("proceed", "a running job remembers it", written=True),
        Case("proceed", "a proceeded job that is due already", state(5)),
        Case("proceed", "a proceeded job of later is brought forward", state(5, due_then), written=True),
        Case("proceed", "a job of another task", ENOUGH["proceed"], {"task": "another"}),
        Case("proceed", "a job of the task", ENOUGH["proceed"], {"task": "task"}, written=True),
        Case("proceed", "a modification of a running job", change={"modified": True}),
        Case("proceed", "a modification", ENOUGH["proceed"], {"modified": True}, written=True),
        *[
            Case(
                "proceed",
                f"a modification of {what} checkpoint",
                ENOUGH["proceed"],
                {"modified": True, "checkpoint": n},
            )
            for what, n in (("an earlier", CHECKPOINT - 1), ("a later", CHECKPOINT + 1))
        ],
        Case("retry", "a live job"),
        Case("retry", "the attempt that ended it", ENOUGH["retry"], {"attempt": 103}, written=True),
        Case("retry", "another attempt than ended it", ENOUGH["retry"], {"attempt": 102}),
        Case("forgive", "a job that lapsed with another worker", ENOUGH["forgive"], {"worker": "other"}),
        Case("forgive", "a job without lapses", "update {s}.jobs set lapsed_worker_id = {worker}, lapses = 0"),
    ]


def _lease_cases() -> list[Case]:
    return [
        Case("renew_lease", "a worker that isn't there", change={"worker": "unknown"}),
        *[Case("renew_lease", f"a lease that {how}", spoil) for how, spoil in _SPOILT_LEASES.items()],
    ]


def _event_cases() -> list[Case]:
    waiting = ENOUGH["wake_unread"]
    return [
        *[
            Case(
                "wake_unread",
                f"a job in state {state}",
                f"{waiting}; update {{s}}.jobs set state = {state} where id = {{job}}",
            )
            for state in (0, 1, 2, 3, 5)
        ],
        Case("wake_unread", "a job that sleeps", f"{waiting}; update {{s}}.jobs set asleep = true where id = {{job}}"),
        Case("wake_unread", "a job without events", f"{waiting}; delete from {{s}}.events where job_id = {{job}}"),
    ]


def _deadline_cases() -> list[Case]:
    def deadline(at: str) -> str:
        return f"{ENOUGH['expire']}; update {{s}}.jobs set deadline_at = {at} where id = {{job}}"

    return [
        Case("expire", "a job that a worker holds", "update {s}.jobs set deadline_at = clock_timestamp()"),
        Case("expire", "a job whose deadline lies ahead", deadline("clock_timestamp() + interval '1 min'")),
        Case("expire", "a job without a deadline", deadline("null")),
        *[
            Case(
                "expire",
                f"a job in state {state}",
                f"{ENOUGH['expire']}; update {{s}}.jobs set state = {state} where id = {{job}}",
                written=True,
            )
            for state in (0, 1, 3, 4, 5)
        ],
    ]


CASES = _cases()
