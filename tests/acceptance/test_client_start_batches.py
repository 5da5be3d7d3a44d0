"""Starting more jobs than fit into memory: stored in batches, each told before anything more is read."""
# ruff: noqa: ARG002 - a handler has its context, whether it needs it or not

from __future__ import annotations

import tracemalloc
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, BackgroundTask, Context, JobQuery
from perdure.errors import MisuseError, PayloadRefused
from tests.support.clients import Hands, Imported, Meta, Progress, ShopClosed, define

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def numbered(number: int) -> Iterator[Meta]:
    return (Meta(f"shop {place}") for place in range(number))


async def as_async(items: Iterator[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("number", "sizes"), [(0, []), (1, [1]), (1000, [1000]), (2500, [1000, 1000, 500])])
async def test_batches_come_in_the_order_of_what_is_read(
    app: App, task: Any, number: int, sizes: list[int], *, is_async: bool
) -> None:
    source = as_async(numbered(number)) if is_async else numbered(number)
    batches = [jobs async for jobs in task.start_batches(source, Progress(3), queue="slow")]
    assert [len(jobs) for jobs in batches] == sizes
    started = [job for jobs in batches for job in jobs]
    assert [job.metadata for job in started] == list(numbered(number))
    assert [job.id for job in started] == sorted({job.id for job in started})
    stored = [job async for job in app.jobs(JobQuery(page_size=700))]
    assert [(job.id, job.metadata) for job in stored] == [(job.id, job.metadata) for job in started]
    assert all((job.queue, job.execution_metadata) == ("slow", Progress(3)) for job in stored)


@pytest.mark.parametrize("is_async", [False, True])
async def test_nothing_is_read_before_it_is_asked_for_nor_before_what_was_read_is_stored(
    task: Any, hands: Hands, *, is_async: bool
) -> None:
    read = 0

    def metadata() -> Iterator[Meta]:
        nonlocal read
        for meta in numbered(2500):
            if read % 1000 == 0:
                assert hands.count() == read
            read += 1
            yield meta

    batches = task.start_batches(as_async(metadata()) if is_async else metadata())
    assert read == 0
    told = 0
    async for jobs in batches:
        told += len(jobs)
        assert read == told == hands.count()
    assert told == 2500


async def test_a_class_starts_batches_too(app: App) -> None:
    @app.task("class")
    class Import(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
        async def execute(self, ctx: Context[Meta, Progress]) -> Imported:
            return Imported(1)

    [jobs] = [jobs async for jobs in Import.start_batches([Meta("a"), Meta("b")], Progress(4))]
    assert [(job.name, job.metadata, job.execution_metadata) for job in jobs] == [
        ("class", Meta("a"), Progress(4)),
        ("class", Meta("b"), Progress(4)),
    ]


async def test_what_is_wrong_with_the_call_is_said_at_the_call(task: Any, migrated_database: str, hands: Hands) -> None:
    with pytest.raises(MisuseError, match="queue=''"):
        task.start_batches([Meta("riga")], queue="")
    with pytest.raises(TypeError, match="quue"):
        task.start_batches([Meta("riga")], quue="slow")
    with pytest.raises(PayloadRefused, match=r"execution metadata of orders\.import"):
        task.start_batches([Meta("riga")], Meta("riga"))
    with (
        psycopg.connect(migrated_database) as sync,
        pytest.raises(MisuseError, match=r"use app\.blocking\.start_batches\(…\)"),
    ):
        task.start_batches([Meta("riga")], connection=sync)
    task.start_batches([Meta("riga")])  # not iterated over
    assert hands.count() == 0


async def collect(batches: AsyncIterator[list[Any]], into: list[Any]) -> None:
    async for jobs in batches:
        into += jobs


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_batch_that_is_refused_is_not_stored_and_the_error_notes_what_is(
    task: Any, hands: Hands, *, is_async: bool
) -> None:
    def metadata() -> Iterator[Any]:
        yield from numbered(2500)
        yield Progress(1)

    started: list[Any] = []
    with pytest.raises(PayloadRefused) as refusal:
        await collect(task.start_batches(as_async(metadata()) if is_async else metadata()), started)
    assert len(started) == hands.count() == 2000
    noted = f"start_batches: 2000 jobs, the ids {started[0].id} to {started[-1].id}, are stored already"
    assert refusal.value.__notes__ == [noted]


async def test_an_error_of_the_source_comes_as_it_is_with_the_note(task: Any, hands: Hands) -> None:
    async def metadata() -> AsyncIterator[Meta]:
        for meta in numbered(1500):
            yield meta
        raise FileNotFoundError("the second page")  # noqa: EM101, TRY003 - what the caller's function raises

    started: list[Any] = []
    with pytest.raises(FileNotFoundError, match="the second page") as failure:
        await collect(task.start_batches(metadata()), started)
    assert len(started) == hands.count() == 1000
    assert [note.partition(",")[0] for note in failure.value.__notes__] == ["start_batches: 1000 jobs"]


async def test_of_a_batch_that_the_database_refuses_nothing_is_stored(task: Any, hands: Hands) -> None:
    hands.sql("alter table background_tasks.jobs add check (metadata ->> 'shop' <> 'shop 1700')")
    started: list[Any] = []
    with pytest.raises(psycopg.errors.CheckViolation) as refusal:
        await collect(task.start_batches(numbered(2500)), started)
    assert len(started) == hands.count() == 1000
    assert [note.partition(",")[0] for note in refusal.value.__notes__] == ["start_batches: 1000 jobs"]


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_all_batches_share_the_fate_of_the_callers_transaction(
    task: Any, own: Any, hands: Hands, ending: str
) -> None:
    started: list[Any] = []
    await collect(task.start_batches(numbered(1500), connection=own), started)
    assert (len(started), hands.count()) == (1500, 0)
    await getattr(own, ending)()
    assert hands.count() == (1500 if ending == "commit" else 0)


async def test_in_the_callers_transaction_an_error_leaves_nothing_and_notes_nothing(
    task: Any, own: Any, hands: Hands
) -> None:
    def metadata() -> Iterator[Any]:
        yield from numbered(1500)
        yield Progress(1)

    started: list[Any] = []
    with pytest.raises(PayloadRefused) as refusal:
        async with own.transaction():
            await collect(task.start_batches(metadata(), connection=own), started)
    assert (len(started), hands.count()) == (1000, 0)
    assert not hasattr(refusal.value, "__notes__")


async def test_rows_may_be_read_by_a_cursor_in_the_same_transaction(task: Any, own: Any, hands: Hands) -> None:
    async with own.transaction(), own.cursor(name="shops") as shops:
        await shops.execute("select 'shop ' || place from generate_series(0, 2499) place")
        metadata = (Meta(shop) async for (shop,) in shops)
        sizes = [len(jobs) async for jobs in task.start_batches(metadata, connection=own)]
    assert sizes == [1000, 1000, 500]
    stored = hands.sql("select metadata ->> 'shop' from background_tasks.jobs order by id")
    assert [shop for (shop,) in stored] == [meta.shop for meta in numbered(2500)]


async def test_no_connection_is_held_while_the_caller_has_its_jobs_nor_after_it_breaks_off(
    migrated_database: str, hands: Hands
) -> None:
    source = numbered(5000)
    async with App(migrated_database, execution={"max_connections": 1}) as app:
        task = define(app)
        async with aclosing(task.start_batches(source)) as batches:
            async for jobs in batches:
                await jobs[-1].refresh()  # on the only connection
                break
        await task.start(Meta("another"))
        assert next(source) == Meta("shop 1000")
        assert hands.count() == 1001
        open_transactions = hands.sql(
            "select query from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
            "and backend_type = 'client backend' and xact_start is not null"
        )
        assert open_transactions == []


async def test_the_peak_of_memory_does_not_grow_with_the_number_of_jobs(task: Any) -> None:
    async def peak_bytes(number: int) -> int:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        started = 0
        async for jobs in task.start_batches(numbered(number)):
            started += len(jobs)
        assert started == number
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    try:
        await peak_bytes(2000)  # what is made once
        few, many = await peak_bytes(10_000), await peak_bytes(50_000)
    finally:
        tracemalloc.stop()
    assert many < 1.1 * few


async def test_where_an_async_source_is_not_taken_it_is_said_what_takes_it(app: App, task: Any) -> None:
    said = "an async iterable is taken by the task's own start_batches: async for jobs in task.start_batches"
    with pytest.raises(MisuseError, match=f"start_many: <async_generator.* can't be iterated here; {said}"):
        await task.start_many(as_async(numbered(1)))
    with pytest.raises(MisuseError, match=f"start_many: .*; {said}"):
        app.blocking.start_many(task, as_async(numbered(1)))
    with pytest.raises(MisuseError, match=f"start_batches: .*; {said}"):
        next(app.blocking.start_batches(task, as_async(numbered(1))))
    with pytest.raises(MisuseError, match="start_many: 5 can't be iterated here; give a list of the jobs' metadata"):
        await task.start_many(5)
    with pytest.raises(MisuseError, match="start_batches: 5 can't be iterated here; give a list"):
        await anext(task.start_batches(5))
