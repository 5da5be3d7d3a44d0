"""The calls of a worker for its attempts: checkpoint, settle, put back. All in batches, all fenced.

Every statement takes its rows sorted by id: all workers lock in one order, and a row's place in the arrays is found
without a join (`finish.sql`).
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.store.arrays import booleans, float8s, int2s, int4s, int8s, jsonbs, jsons, texts, times
from perdure.store.calls import Call
from perdure.store.jobs import jsonb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from perdure.store.arrays import Packed
    from perdure.store.sql import Names

__all__ = [
    "Deferral",
    "Finish",
    "Persist",
    "ProgressReport",
    "PutBack",
    "Release",
    "Released",
    "Settlement",
    "defer",
    "fence",
    "finish",
    "persist",
    "put_back",
    "release",
    "report_progress",
    "settlement",
    "wake_unread",
]


class Finish(NamedTuple):
    """A final outcome. `execution_metadata` is None where it stays as it is stored.

    `events`: ids of the job's events that are consumed with it.
    """

    id: int
    claim: int
    checkpoint: int
    state: int
    execution_metadata: bytes | None
    result: bytes | None
    error: bytes | None
    last_error: bytes | None
    events: tuple[int, ...] = ()


class Release(NamedTuple):
    """An outcome after which the job goes on later.

    Due: at its old place (`keep_place`), at `due_at`, in `due_seconds`; or never by itself when all three say nothing.
    For the job's history: `ending`, a code of `AttemptEnding`, and `attempt_woken_by`, what the job had been woken by
    when the attempt began. `woken_by` is what it is woken by from now on; None leaves it as it is. `events`: as in
    `Finish`. `took_events`: the attempt has consumed some, with this or before.
    """

    id: int
    claim: int
    checkpoint: int
    state: int
    execution_metadata: bytes | None
    keep_place: bool
    due_at: datetime | None
    due_seconds: float | None
    retry_number: int
    scheduler_retries: int
    lapses: int
    suspect: bool
    use_proceed: bool
    error: bytes | None
    last_error: bytes | None
    ending: int
    attempt_woken_by: int = 0
    asleep: bool = False
    woken_by: int | None = None
    events: tuple[int, ...] = ()
    took_events: bool = False


class Released(NamedTuple):
    """A job that was released: in how many seconds it is due, by the database's clock; None is never."""

    id: int
    due_seconds: float | None


class Persist(NamedTuple):
    """New execution metadata of a running attempt, and the number of the checkpoint that it follows.

    `execution_metadata` is None where it stays as it is stored; the number is spent all the same. With it, `events`
    (ids of the job's) are consumed, and `steps` stored: keys, with results as JSON.
    """

    id: int
    claim: int
    checkpoint: int
    execution_metadata: bytes | None
    events: tuple[int, ...] = ()
    steps: tuple[tuple[str, bytes], ...] = ()


class ProgressReport(NamedTuple):
    """How far a running attempt is, as JSON."""

    id: int
    claim: int
    progress: bytes


class PutBack(NamedTuple):
    """A claim that was never started."""

    id: int
    claim: int


class Deferral(NamedTuple):
    """A claim that this worker can't read, and why; `began`: its attempt is spent, since the handler ran."""

    id: int
    claim: int
    last_error: bytes
    began: bool = False


class Settlement(NamedTuple):
    """A job's row as a write that found none asks for it."""

    id: int
    claim: int
    state: int
    worker_id: UUID | None
    checkpoint: int
    cancel_requested: bool
    proceed_requested: bool
    locked: bool
    lapsed_worker_id: UUID | None = None


def _ids(rows: Sequence[tuple[Any, ...]]) -> list[int]:
    return [row[0] for row in rows]


def _sorted(ids: Sequence[int]) -> Packed:
    """Pack the ids of a batch.

    Raises:
        ValueError: They aren't sorted: a row's place in the arrays would be a wrong one.
    """
    if not all(map(operator.le, ids, ids[1:])):
        message = "the entries of a batch must be sorted by id"
        raise ValueError(message)
    return int8s(ids)


def _given(values: Sequence[bytes | None]) -> Sequence[bytes | None]:
    """Return an empty array for nothing but nulls: reading past an array's end gives null as well."""
    return values if any(values) else ()


def _used(entries: Sequence[Finish | Release | Persist]) -> dict[str, Packed]:
    """Pack the events that a batch consumes: for most there are none."""
    used = [(entry.id, event) for entry in entries for event in entry.events]
    return {"event_jobs": int8s([job for job, _ in used]), "event_ids": int8s([event for _, event in used])}


def finish(names: Names, worker: UUID, entries: Sequence[Finish], *, holder: UUID | None = None) -> Call[int]:
    """End these jobs for good; answers how many were still this worker's to end.

    Args:
        names: The schema's names.
        worker: Whose attempts these are.
        entries: Sorted by id.
        holder: Whose lease allows the write; the worker's own, except in a rescue.
    """
    ids, claims, checkpoints, states, metadata, results, errors, last_errors, _ = zip(*entries, strict=True)
    parameters = {
        "worker": worker,
        "holder": holder or worker,
        "ids": _sorted(ids),
        "claims": int4s(claims),
        "checkpoints": int4s(checkpoints),
        "states": int2s(states),
        "execution_metadata": jsonbs(_given(metadata)),
        "results": jsons(results),
        "errors": jsons(_given(errors)),
        "last_errors": texts(_given(last_errors)),
        "done_channel": names.done_channel,
        **_used(entries),
    }
    return Call(names.statements["finish"], parameters, lambda rows: int(rows[0][0]))


def release(
    names: Names, worker: UUID, entries: Sequence[Release], *, holder: UUID | None = None, lapsed: bool = False
) -> Call[list[Released]]:
    """Let these jobs go on later; answers those that were still this worker's to release.

    Arguments as for `finish`; `lapsed` in a rescue: remember whose lapse it was, if it counts.
    """
    parameters = {
        "worker": worker,
        "holder": holder or worker,
        "lapsed": lapsed,
        "ids": _sorted([entry.id for entry in entries]),
        "claims": int4s([entry.claim for entry in entries]),
        "checkpoints": int4s([entry.checkpoint for entry in entries]),
        "states": int2s([entry.state for entry in entries]),
        "execution_metadata": jsonbs(_given([entry.execution_metadata for entry in entries])),
        "keep_places": booleans([entry.keep_place for entry in entries]),
        "due_at": times([entry.due_at for entry in entries]),
        "due_seconds": float8s([entry.due_seconds for entry in entries]),
        "retry_numbers": int4s([entry.retry_number for entry in entries]),
        "scheduler_retries": int4s([entry.scheduler_retries for entry in entries]),
        "lapses": int2s([entry.lapses for entry in entries]),
        "suspects": booleans([entry.suspect for entry in entries]),
        "use_proceeds": booleans([entry.use_proceed for entry in entries]),
        "asleep": booleans([entry.asleep for entry in entries]),
        "woken_by": int2s([-1 if entry.woken_by is None else entry.woken_by for entry in entries]),
        "endings": int2s([entry.ending for entry in entries]),
        "attempts_woken_by": int2s([entry.attempt_woken_by for entry in entries]),
        "errors": jsons(_given([entry.error for entry in entries])),
        "last_errors": texts(_given([entry.last_error for entry in entries])),
        **_used(entries),
    }
    return Call(names.statements["release"], parameters, lambda rows: [Released(*row) for row in rows])


def wake_unread(names: Names, entries: Sequence[Release]) -> Call[list[int]]:
    """Let those of these jobs go on that wait and have unread events; answers which.

    Belongs behind each `release` to such a state, as a statement of its own in the same transaction.
    """
    took = [entry.id for entry in entries if entry.took_events]
    parameters = {"ids": _sorted([entry.id for entry in entries]), "took": int8s(took), "channel": names.work_channel}
    return Call(names.statements["wake_unread"], parameters, _ids)


def persist(names: Names, worker: UUID, entries: Sequence[Persist]) -> Call[list[int]]:
    """Write these checkpoints; answers the ids whose attempt may still write and names the right predecessor."""
    ids, claims, checkpoints, metadata, _, _ = zip(*entries, strict=True)
    # A key that an entry names twice must not fail the batch.
    steps = [(entry.id, key, result) for entry in entries if entry.steps for key, result in dict(entry.steps).items()]
    parameters = {
        "worker": worker,
        "ids": _sorted(ids),
        "claims": int4s(claims),
        "checkpoints": int4s(checkpoints),
        "execution_metadata": jsonbs(_given(metadata)),
        "step_jobs": int8s([job for job, _, _ in steps]),
        "step_keys": texts([key.encode() for _, key, _ in steps]),
        "step_results": jsons([result for _, _, result in steps]),
        **_used(entries),
    }
    return Call(names.statements["persist"], parameters, _ids)


def report_progress(names: Names, worker: UUID, entries: Sequence[ProgressReport]) -> Call[None]:
    """Write how far these attempts are."""
    ids, claims, progress = zip(*entries, strict=True)
    parameters = {"worker": worker, "ids": _sorted(ids), "claims": int4s(claims), "progress": jsons(progress)}
    return Call(names.statements["report_progress"], parameters, lambda _rows: None)


def put_back(names: Names, worker: UUID, entries: Sequence[PutBack]) -> Call[list[int]]:
    """Return claims that were never started."""
    ids, claims = zip(*entries, strict=True)
    parameters = {"worker": worker, "ids": _sorted(ids), "claims": int4s(claims)}
    return Call(names.statements["put_back"], parameters, _ids)


def defer(names: Names, worker: UUID, entries: Sequence[Deferral]) -> Call[list[Released]]:
    """Return claims that this worker can't read; they wait at growing delays. Answers those that were still its own."""
    ids, claims, last_errors, began = zip(*entries, strict=True)
    parameters = {
        "worker": worker,
        "ids": _sorted(ids),
        "claims": int4s(claims),
        "last_errors": texts(last_errors),
        "began": booleans(began),
    }
    return Call(names.statements["defer"], parameters, lambda rows: [Released(*row) for row in rows])


def settlement(names: Names, ids: Sequence[int]) -> Call[dict[int, Settlement]]:
    """Read what has become of jobs whose write found no row."""

    def read(rows: Sequence[tuple[Any, ...]]) -> dict[int, Settlement]:
        found = [Settlement(*row) for row in rows]
        return {row.id: row for row in found}

    return Call(names.statements["settlement"], {"ids": int8s(ids)}, read)


def fence(names: Names, worker: UUID, entry: Persist, *, changed: bool) -> Call[bool]:
    """Write a checkpoint as the last statement of a user's transaction, or abort that (SQLSTATE PD001, PD002)."""
    parameters = {
        "worker": worker,
        "id": entry.id,
        "claim": entry.claim,
        "checkpoint": entry.checkpoint,
        "execution_metadata": jsonb(data) if changed and (data := entry.execution_metadata) is not None else None,
    }
    return Call(names.statements["fence"], parameters, bool)
