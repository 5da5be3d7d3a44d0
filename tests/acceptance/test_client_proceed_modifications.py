"""Proceed with a modification of the execution metadata: what it is given, and how it may fail."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from perdure import App, JobState, ModificationFailed, Proceeded, WokenBy
from tests.support.clients import Hands, Meta, Progress, fail_to_grow, grown, stored, suspended


async def test_a_modification_is_given_the_typed_execution_metadata_and_returns_a_new_one(
    app: App, task: Any, hands: Hands
) -> None:
    job = await suspended(task, hands)
    match await task.proceed(job.id, lambda progress: replace(progress, rows=7)):
        case Proceeded(gone_on):
            assert (gone_on.state, gone_on.execution_metadata) == (JobState.PROCEEDED, Progress(7))
            assert gone_on.woken_by is WokenBy.PROCEED
        case other:
            pytest.fail(f"{other}")
    assert await stored(job) == (JobState.PROCEEDED, Progress(7))
    assert hands.column(job, "checkpoint") == 1
    hands.suspend(job)
    assert isinstance(await app.proceed(job.id, grown), Proceeded)
    assert await stored(job) == (JobState.PROCEEDED, Progress(8))


async def test_a_modification_may_change_the_object_in_place_and_return_it(task: Any, hands: Hands) -> None:
    job = await suspended(task, hands)

    def change(progress: Progress) -> Progress:
        progress.seen.append("by ann")
        return progress

    assert isinstance(await task.proceed(job.id, change), Proceeded)
    assert await stored(job) == (JobState.PROCEEDED, Progress(0, ["by ann"]))


async def test_a_task_without_a_checkpoint_can_be_modified_to_none(app: App, hands: Hands) -> None:
    nothing: Any = app.tasks["nothing"]
    job = await nothing.start()
    hands.suspend(job)
    assert isinstance(await nothing.proceed(job.id, lambda none: none), Proceeded)


def _changes_and_forgets(progress: Progress) -> None:
    progress.rows = 9


async def _is_async(progress: Progress) -> Progress:
    return progress


@pytest.mark.parametrize(
    ("modification", "said"),
    [
        (fail_to_grow, "the modification raised ValueError: no such page"),
        (lambda _: Meta("oslo"), "the modification returned what can't be stored: execution metadata of orders.import"),
        (lambda _: Progress(rows="many"), "execution metadata of orders.import"),  # type: ignore[arg-type]
        (_changes_and_forgets, "a modification that changes the object has to return it as well"),
        (_is_async, "the modification is an async function"),
        (lambda _: Progress(seen=["x" * 3_000_000]), "allowed are 2,097,152 (execution.max_payload_bytes)"),
    ],
)
async def test_a_modification_that_fails_changes_nothing_and_is_told(
    task: Any, hands: Hands, modification: Any, said: str
) -> None:
    job = await suspended(task, hands)
    before = hands.sql("select ctid, xmax::text = '0', jobs.* from background_tasks.jobs")[0][2:]
    for _ in range(2):
        match await task.proceed(job.id, modification):
            case ModificationFailed(message):
                assert said in message
            case other:
                pytest.fail(f"{other}")
    assert hands.sql("select ctid, xmax::text = '0', jobs.* from background_tasks.jobs")[0][2:] == before


async def test_of_a_payload_that_cannot_be_decoded_the_modification_fails(task: Any, hands: Hands) -> None:
    job = await suspended(task, hands)
    hands.make(job, execution_metadata='{"rows": "many"}')
    match await task.proceed(job.id, grown):
        case ModificationFailed(message):
            assert f"job {job.id}: execution metadata" in message
        case other:
            pytest.fail(f"{other}")
    assert hands.column(job, "state") == JobState.SUSPENDED.code


async def test_of_an_unknown_task_the_modification_fails_and_a_plain_proceed_does_not(
    task: Any, hands: Hands, migrated_database: str
) -> None:
    job = await suspended(task, hands)
    async with App(migrated_database) as other:
        match await other.proceed(job.id, grown):
            case ModificationFailed(message):
                assert "the task 'orders.import', which this app doesn't have" in message
            case answer:
                pytest.fail(f"{answer}")
        assert hands.column(job, "state") == JobState.SUSPENDED.code
        assert isinstance(await other.proceed(job.id), Proceeded)


async def test_a_cancelled_call_of_a_modification_changes_nothing(app: App, task: Any, hands: Hands) -> None:
    job = await suspended(task, hands)

    def cancelled(_: Progress) -> Progress:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await app.proceed(job.id, cancelled)
    assert await stored(job) == (JobState.SUSPENDED, Progress())
    assert isinstance(await app.proceed(job.id, grown), Proceeded)
