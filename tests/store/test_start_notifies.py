"""A start notifies when somebody sleeps who would take the job; else it spares the server the lock for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perdure.store import jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.store.workbench import Workbench


@pytest.fixture
def listening(every_bench: Workbench) -> Any:
    return every_bench.listener(every_bench.names.work_channel)


def _sleeper(bench: Workbench, queues: list[str] | None) -> None:
    worker = bench.register(queues=queues)
    bench.sql("update {s}.workers set sleeping = true where id = %s", worker)


def _awake_and_lapsed(bench: Workbench, queue: str) -> None:
    """Register workers of a queue that are not to be notified: one doesn't sleep, one has lapsed while it slept."""
    bench.register(queues=[queue])
    lapsed = bench.register(queues=[queue])
    bench.sql("update {s}.workers set sleeping = true, lapsed_at = clock_timestamp() where id = %s", lapsed)


def _start_many(bench: Workbench, queue: str) -> None:
    bench.run(
        jobs.start_many(
            bench.names,
            task="task",
            queue=queue,
            priority=0,
            at=None,
            after=None,
            deadline=None,
            version=1,
            metadata=[b"1", b"2", b"3"],
            execution_metadata=b"null",
            notify=False,
        )
    )


@pytest.mark.parametrize("queues", [None, ["mail", "bulk"]])
def test_a_start_notifies_once_for_a_sleeper_of_its_queue(
    every_bench: Workbench, listening: Any, queues: list[str] | None
) -> None:
    _sleeper(every_bench, queues)
    every_bench.start(queue="mail")
    assert every_bench.heard(listening) == ["mail"]
    _start_many(every_bench, "bulk")
    assert every_bench.heard(listening) == ["bulk"]


def test_nobody_is_notified_while_only_workers_of_other_queues_sleep(every_bench: Workbench, listening: Any) -> None:
    _sleeper(every_bench, ["bulk"])
    _awake_and_lapsed(every_bench, "mail")
    every_bench.start(queue="mail")
    _start_many(every_bench, "mail")
    assert every_bench.heard(listening) == []
    every_bench.start(queue="mail", notify=True)  # who sleeps at the end of the caller's transaction isn't known
    assert every_bench.heard(listening) == ["mail"]


def _proceed(bench: Workbench, job_id: int) -> None:
    bench.sql("update {s}.jobs set state = 4, scheduled_at = null where id = %s", job_id)
    assert bench.run(jobs.proceed(bench.names, job_id, at=None, after=None))


def _send(bench: Workbench, job_id: int) -> None:
    bench.sql("update {s}.jobs set state = 4, scheduled_at = null where id = %s", job_id)
    call = jobs.send(bench.names, job_id, task="task", version=1, event=b"1", notify=False)
    assert bench.run(call) is not None


def _retry(bench: Workbench, job_id: int) -> None:
    assert bench.run(jobs.cancel(bench.names, job_id))
    assert bench.run(jobs.retry(bench.names, job_id))


@pytest.mark.parametrize("lets_go_on", [_proceed, _send, _retry])
def test_what_lets_a_job_go_on_notifies_as_a_start_does(
    every_bench: Workbench, listening: Any, lets_go_on: Callable[[Workbench, int], None]
) -> None:
    _sleeper(every_bench, ["bulk"])
    _awake_and_lapsed(every_bench, "mail")
    for_others, for_it = every_bench.start(queue="mail"), every_bench.start(queue="bulk")
    assert every_bench.heard(listening) == ["bulk"]
    lets_go_on(every_bench, for_others)
    assert every_bench.heard(listening) == []
    lets_go_on(every_bench, for_it)
    assert every_bench.heard(listening) == ["bulk"]
