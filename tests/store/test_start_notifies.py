"""A start notifies when somebody sleeps who would take the job; else it spares the server the lock for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perdure.store import jobs

if TYPE_CHECKING:
    from tests.store.workbench import Workbench


@pytest.fixture
def listening(every_bench: Workbench) -> Any:
    return every_bench.listener(every_bench.names.work_channel)


def _sleeper(bench: Workbench, queues: list[str] | None) -> None:
    worker = bench.register(queues=queues)
    bench.sql("update {s}.workers set sleeping = true where id = %s", worker)


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
    every_bench.register(queues=["mail"])
    every_bench.start(queue="mail")
    _start_many(every_bench, "mail")
    assert every_bench.heard(listening) == []
    every_bench.start(queue="mail", notify=True)  # who sleeps at the end of the caller's transaction isn't known
    assert every_bench.heard(listening) == ["mail"]
