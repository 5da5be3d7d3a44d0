"""What the actors do: clients as perdure's verbs, workers as its lanes and rescuers; at each yield others come in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from perdure.core.decide import FRESH, Fail, Limits, Raise, Returned, Shutdown, Suspend
from perdure.core.retry import RetryPolicy
from perdure.store import calls, claims, jobs, leases, settles
from perdure.store.settles import Finish
from perdure.worker.rescuer import _verdict
from perdure.worker.verdict import Verdict
from tests.support.races.explorer import LATER, Actor
from tests.support.races.moves import Wrong
from tests.support.races.stage import JOB, RESCUER, WORKER

if TYPE_CHECKING:
    from perdure.core.decide import Ending
    from perdure.store.calls import Call
    from perdure.store.settles import Release
    from tests.support.races.stage import Stage

__all__ = ["Log", "make_actor"]

Script = AsyncGenerator[str | None]
Acknowledge = Callable[[], None]
Verb = Callable[["Stage", Any, "Log"], Awaitable[Acknowledge]]
_MOST_LOOKS = 20
_NO_MORE: tuple[str | None, ...] = ()
_LIMITS = Limits(RetryPolicy(1, (60.0,), 0), 2)
_ENDINGS: dict[str, Ending] = {
    "complete": Returned(),
    "raise": Raise(),
    "fail for good": Fail(retry=False),
    "suspend": Suspend(),
    "stop": Shutdown(),
}


@dataclass
class Log:
    """What has been acknowledged: how attempts were settled, whether proceeds let go on, states that were sent to.

    Attributes:
        cancelled: How many cancels were acknowledged.
        claimed: How many claims have got the job.
    """

    settled: list[str] = field(default_factory=list[str])
    proceeds: list[bool] = field(default_factory=list[bool])
    sent: list[int] = field(default_factory=list[int])
    retried: list[int] = field(default_factory=list[int])
    cancelled: int = 0
    claimed: int = 0


def make_actor(stage: Stage, name: str, place: int, log: Log) -> Actor:
    """Make an actor on the connection of this place."""
    connection = stage.connections[place]
    kind, _, isolation = name.partition(" in ")
    if kind in _ENDINGS:
        script = _settle(stage, connection, kind, log)
    elif isolation:
        script = _in_transaction(_VERBS[kind], isolation, stage, connection, log)
    elif kind in _VERBS:
        script = _alone(_VERBS[kind], stage, connection, log)
    else:
        script = _OTHERS[kind](stage, connection, log)
    return Actor(name, script, connection.info.backend_pid)


# --- clients


async def _proceed(stage: Stage, connection: Any, log: Log) -> Acknowledge:
    answer = await calls.run(connection, jobs.proceed(stage.names, JOB, at=None, after=None))
    return lambda: None if answer is None else log.proceeds.append(answer.goes_on)


async def _send(stage: Stage, connection: Any, log: Log) -> Acknowledge:
    call = jobs.send(stage.names, JOB, task="task", version=1, event=b"1", notify=False)
    state = await calls.run(connection, call)
    return lambda: None if state is None else log.sent.append(state)


async def _retry(stage: Stage, connection: Any, log: Log) -> Acknowledge:
    answer = await calls.run(connection, jobs.retry(stage.names, JOB))
    return lambda: None if answer is None else log.retried.append(answer.state)


async def _retry_once_ended(stage: Stage, connection: Any, log: Log) -> Script:
    """An operator who waits for the end: he looks again after another's step, and gives up when there are none."""
    for _ in range(_MOST_LOOKS):
        (await _retry(stage, connection, log))()
        if log.retried:
            return
        yield LATER


async def _alone(verb: Verb, stage: Stage, connection: Any, log: Log) -> Script:
    """A client's call by itself: one step."""
    acknowledge = await verb(stage, connection, log)
    acknowledge()
    for step in _NO_MORE:
        yield step


async def _in_transaction(verb: Verb, isolation: str, stage: Stage, connection: Any, log: Log) -> Script:
    """A client's call in a transaction of the caller's: in some its snapshot is taken before; committed after."""
    repeats = isolation == "repeatable read"
    await connection.execute(b"begin isolation level repeatable read" if repeats else b"begin")
    if repeats:
        await connection.execute(b"select count(*) from background_tasks.jobs")
        yield None
    try:
        acknowledge = await verb(stage, connection, log)
        yield None
        await connection.execute(b"commit")
    except psycopg.errors.SerializationFailure:
        await connection.execute(b"rollback")
        return
    acknowledge()


async def _cancel(stage: Stage, connection: Any, log: Log) -> Script:
    """As `perdure.verbs.ending` does it."""
    while True:
        if await calls.run(connection, jobs.cancel(stage.names, JOB)):
            break
        yield None
        if await calls.run(connection, jobs.request_cancel(stage.names, JOB)):
            break
        yield None
        row = await calls.run(connection, jobs.get(stage.names, JOB))
        if row is None or row.finished_at is not None:
            return
        yield LATER
    log.cancelled += 1


# --- workers


async def _run(connection: Any, call: Call[Any]) -> Any:
    return await calls.run(connection, call)


async def _settle(stage: Stage, connection: Any, kind: str, log: Log) -> Script:
    """As a lane settles an attempt: tried, looked into, decided anew, until it has landed or is somebody else's."""
    data = None if kind == "raise" else b'"new"'
    result = b"1" if kind == "complete" else None
    verdict = Verdict(JOB, 1, 1, FRESH, _ENDINGS[kind], _LIMITS, execution_metadata=data, result=result)
    call: Call[Any]
    while True:
        entry = verdict.entry()
        await connection.execute(b"begin")
        if isinstance(entry, Finish):
            call = settles.finish(stage.names, WORKER, [entry])
            landed = bool(await _run(connection, call))
        else:
            call = settles.release(stage.names, WORKER, [entry])
            landed = bool(await _run(connection, call))
            if entry.state in {4, 5}:
                yield None
                await calls.run(connection, settles.wake_unread(stage.names, [entry]))
        yield None
        await connection.execute(b"commit")
        if landed:
            log.settled.append(kind if verdict.entry().state != 8 else f"{kind}, cancelled")
            return
        yield None
        row = (await calls.run(connection, settles.settlement(stage.names, [JOB]))).get(JOB)
        if row is not None and row.locked:
            yield LATER
            continue
        if row is None or (row.state, row.claim, row.worker_id) != (2, 1, WORKER):
            return
        verdict = verdict.informed(row)
        yield LATER


async def _lapse(stage: Stage, connection: Any, log: Log) -> Script:
    """The worker's lease ends; another sweeps, and rescues, as often as the lost one still holds the job."""
    await connection.execute(
        b"update background_tasks.workers set lease_until = clock_timestamp() where id = %s", [WORKER]
    )
    await calls.run(connection, leases.sweep(stage.names, RESCUER))
    looks: str | None = None
    while True:
        yield looks
        looks = LATER
        await connection.execute(b"begin")
        found = await calls.run(connection, leases.lapsed_jobs(stage.names, WORKER, limit=10))
        yield None
        for job in found:
            entry = _verdict(job, _LIMITS, ever_reported=False).entry()
            await _write_rescue(stage, connection, entry)
        yield None
        await connection.execute(b"commit")
        if found:
            log.settled.append("lapse, cancelled" if found[0].cancel_requested else "lapse")
            return
        cursor = await connection.execute(b"select from background_tasks.jobs where worker_id = %s", [WORKER])
        if not cursor.rowcount:
            return


async def _write_rescue(stage: Stage, connection: Any, entry: Finish | Release) -> None:
    call: Call[Any]
    if isinstance(entry, Finish):
        call = settles.finish(stage.names, WORKER, [entry], holder=RESCUER)
    else:
        call = settles.release(stage.names, WORKER, [entry], holder=RESCUER, lapsed=True)
    if not await _run(connection, call):
        message = "I9: what a rescue has locked isn't the rescuer's to write"
        raise Wrong(message)


async def _claim(stage: Stage, connection: Any, log: Log) -> Script:
    await connection.execute(b"begin")
    claimed: Any = await calls.run(connection, claims.claim(stage.names, RESCUER, want=1, queues=None))
    yield None
    await connection.execute(b"commit")
    log.claimed += len(claimed.jobs)


_VERBS: dict[str, Verb] = {"proceed": _proceed, "send": _send, "retry": _retry}
_OTHERS: dict[str, Callable[[Stage, Any, Log], Script]] = {
    "cancel": _cancel,
    "lapse": _lapse,
    "claim": _claim,
    "retry once ended": _retry_once_ended,
}
