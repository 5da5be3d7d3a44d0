"""The verbs without their I/O: what they ask of the database, and how much at a time."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Never

import pytest

from perdure import App, Context
from perdure.store.jobs import StartedMany
from perdure.verbs import Verbs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from perdure import Job
    from perdure.verbs import Verb

NOW = datetime.now(UTC)
_LENGTH = struct.Struct("!12xI")  # of an array, in PostgreSQL's binary format


@pytest.fixture
def app() -> App:
    app = App("postgresql:///nobody-connects")

    @app.task("echo")
    async def echo(ctx: Context[str, None]) -> str:
        return ctx.metadata

    return app


@pytest.fixture
def verbs(app: App) -> Verbs:
    return Verbs(app.names, app.tasks, source=None, max_payload_bytes=2**30)  # type: ignore[arg-type]


def stored(storing: Verb[list[Job[str, None, str, Never]]]) -> tuple[list[int], list[str]]:
    """How many jobs a verb asks to store at a time, and the metadata of those that it then answers with."""
    lengths: list[int] = []
    try:
        call: Any = next(storing)
        while True:
            known = sum(lengths)
            lengths.append(_LENGTH.unpack_from(call.parameters["metadata"].pack(None))[0])
            call = storing.send(StartedMany(list(range(known, known + lengths[-1])), NOW, NOW))
    except StopIteration as end:
        return lengths, [job.metadata for job in end.value]


cuts = pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([], []),
        ([1], [1]),
        ([1] * 1000, [1000]),
        ([1] * 2001, [1000, 1000, 1]),
        ([9_000_000] * 3, [1, 1, 1]),
        ([5_000_000] * 3, [2, 1]),
        ([1, 9_000_000, 1], [2, 1]),
    ],
)


@cuts
def test_batches_are_neither_long_nor_large(app: App, verbs: Verbs, lengths: list[int], expected: list[int]) -> None:
    task: Any = app.tasks["echo"]
    metadata = ["x" * length for length in lengths]
    assert stored(verbs.start_many(task, metadata, in_callers_transaction=False)) == (expected, metadata)


@cuts
@pytest.mark.parametrize("is_async", [False, True])
async def test_an_async_source_is_cut_likewise(
    app: App, verbs: Verbs, lengths: list[int], expected: list[int], *, is_async: bool
) -> None:
    async def each() -> AsyncIterator[str]:
        for item in metadata:
            yield item

    task: Any = app.tasks["echo"]
    metadata = ["x" * length for length in lengths]
    batches = verbs.batches(task, in_callers_transaction=False)
    answers = [stored(storing) async for storing in batches.of_any(each() if is_async else metadata)]
    assert [sizes for sizes, _ in answers] == [[size] for size in expected]
    assert [item for _, items in answers for item in items] == metadata


async def test_what_can_be_read_in_both_ways_is_read_as_async(app: App, verbs: Verbs) -> None:
    class Queryset(list[str]):
        async def __aiter__(self) -> AsyncIterator[str]:
            yield "async"

    task: Any = app.tasks["echo"]
    batches = verbs.batches(task, in_callers_transaction=False)
    assert [stored(storing)[1] async for storing in batches.of_any(Queryset(["sync"]))] == [["async"]]
