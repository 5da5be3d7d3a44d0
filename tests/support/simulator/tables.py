"""All rows, of the model and of a real database, in one form: to be compared."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.store.workbench import Workbench
    from tests.support.simulator.leases import Model

__all__ = ["rows_of_database", "rows_of_model"]

_HOUR = 3600.0
Rows = dict[str, Any]

_JOB = [
    "state",
    "worker_id",
    "lapsed_worker_id",
    "claim",
    "attempt",
    "retry_number",
    "scheduler_retries",
    "checkpoint",
    "claim_checkpoint",
    "lapses",
    "unreadable",
    "suspect",
    "proceed_requested",
    "cancel_requested",
    "woken_by",
    "asleep",
    "execution_metadata",
    "error",
    "last_error",
]
_JOB_TIMES = ("scheduled_at", "proceed_at", "deadline_at", "created_at")
_ENDED = [
    "state",
    "worker_id",
    "claim",
    "attempt",
    "retry_number",
    "checkpoint",
    "woken_by",
    "execution_metadata",
    "result",
    "error",
    "last_error",
]
_ENDED_TIMES = ("scheduled_at", "deadline_at", "created_at")
_WORKER = ("lapsed_at is not null", "left_at is not null")
_RENAMED = {"execution_metadata": "data", "worker_id": "worker", "lapsed_worker_id": "lapsed_worker"}
_TIMES = {"scheduled_at": "due", "proceed_at": "proceed_at", "deadline_at": "deadline", "created_at": "created"}


def _hours(column: str) -> str:
    return f"round(extract(epoch from {column} - clock_timestamp()) / {_HOUR})::int"


def _query() -> str:
    def row(columns: list[str]) -> str:
        return f"jsonb_build_array({', '.join(columns)})"

    job = row([*_JOB, *map(_hours, _JOB_TIMES)])
    ended = row([*_ENDED, *map(_hours, _ENDED_TIMES)])
    worker = row([*_WORKER, _hours("lease_until")])
    past = row(["ending", "woken_by", "worker_id", "error"])
    until = _hours("(result ->> 'until')::timestamptz")
    step = f"case when result ->> 'until' is null then jsonb_build_array(result) else jsonb_build_array({until}) end"
    return f"""
        select 'job', id, null, {job} from {{s}}.jobs union all
        select 'ended', id, null, {ended} from {{s}}.finished_jobs union all
        select 'event', job_id, id::text, jsonb_build_array(woke) from {{s}}.events union all
        select 'step', job_id, key, {step} from {{s}}.steps union all
        select 'attempt', job_id, attempt::text, {past} from {{s}}.attempts union all
        select 'worker', null, id::text, {worker} from {{s}}.workers"""


_QUERY = _query()


def rows_of_database(bench: Workbench, hidden: Collection[int]) -> Rows:
    """Return all rows but those of the hidden jobs, which a transaction has locked."""
    query = _QUERY.replace("{s}", bench.names.statements.fill("{schema}", parametrised=False))
    found: Rows = {}
    for table, job_id, key, row in bench.connection.execute(query.encode()):
        if job_id not in hidden:
            found[f"{table} {job_id} {key}"] = row
    return found


def rows_of_model(model: Model, hidden: Collection[int]) -> Rows:
    """Return the same of the model."""
    now = model.now
    rows: Rows = {}
    for table, jobs, columns, times in (
        ("job", model.jobs, _JOB, _JOB_TIMES),
        ("ended", model.ended, _ENDED, _ENDED_TIMES),
    ):
        for job_id, job in jobs.items():
            plain = [_plain(getattr(job, _RENAMED.get(column, column))) for column in columns]
            rows[f"{table} {job_id} None"] = [*plain, *(_in_hours(getattr(job, _TIMES[time]), now) for time in times)]
    for job_id, events in model.events.items():
        rows |= {f"event {job_id} {event.id}": [event.woke] for event in events if event.tx is None}
    for job_id, steps in model.steps.items():
        for key, stored in steps.items():
            rows[f"step {job_id} {key}"] = [_plain(stored) if isinstance(stored, bytes) else _in_hours(stored[0], now)]
    for job_id, history in model.attempts.items():
        for past in history:
            rows[f"attempt {job_id} {past.attempt}"] = [
                past.ending,
                past.woken_by,
                _plain(past.worker),
                _plain(past.error),
            ]
    for worker in model.workers.values():
        rows[f"worker None {worker.id}"] = [worker.lapsed, worker.left, _in_hours(worker.lease_until, now)]
    return {key: row for key, row in rows.items() if not _is_of(key, hidden)}


def _is_of(key: str, hidden: Collection[int]) -> bool:
    table, job_id, _ = key.split(" ", 2)
    return table != "worker" and int(job_id) in hidden


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, bytes):
        text = value.decode()
        try:
            return json.loads(text)
        except ValueError:
            return text  # last_error
    return str(value)


def _in_hours(moment: float | None, now: float) -> int | None:
    return None if moment is None else round((moment - now) / _HOUR)
