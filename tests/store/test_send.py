"""Whom an event reaches, and wakes: the job that is named, of the task that is named, if it waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from tests.store.workbench import Workbench

_SUSPENDED = "state = 4, scheduled_at = null"
_PROCEEDED = "state = 5, scheduled_at = clock_timestamp()"
_WAITING = [_SUSPENDED, f"{_PROCEEDED} + interval '1 h'"]
_NOT_WAITING = [
    _PROCEEDED,
    "state = 0, scheduled_at = clock_timestamp() + interval '1 h'",
    "state = 2, worker_id = gen_random_uuid()",
    f"{_SUSPENDED}, asleep = true",
]


@pytest.mark.parametrize("isolation", psycopg.IsolationLevel)
@pytest.mark.parametrize("state", [*_WAITING, *_NOT_WAITING])
def test_an_event_reaches_its_job_alone_and_wakes_it_if_it_waits(
    bench: Workbench, isolation: psycopg.IsolationLevel, state: str
) -> None:
    connection = bench.connect()
    connection.isolation_level = isolation
    first, job, last, of_another = (bench.start() for _ in range(4))
    bench.sql("update {s}.jobs set task = 'another' where id = %s", of_another)
    bench.sql(f"update {{s}}.jobs set {state}")
    before = bench.rows()
    with connection.transaction():
        assert bench.send(of_another, connection=connection) is None
        assert bench.send(2**40, connection=connection) is None
        assert bench.send(job, connection=connection) == bench.job(job)["state"]
    [event] = bench.events(job)
    assert bench.changes(before) == {f"events {job} {event}", *([f"jobs {job}"] if state in _WAITING else [])}
    assert [bench.events(other) for other in (first, last)] == [[], []]
