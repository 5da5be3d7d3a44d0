"""The verbs without their I/O: what they ask of the database, and how much at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from perdure import App, Context
from perdure.store.jobs import StartedMany
from perdure.verbs import Verbs

NOW = datetime.now(UTC)


@pytest.fixture
def app() -> App:
    app = App("postgresql:///nobody-connects")

    @app.task("echo")
    async def echo(ctx: Context[str, None]) -> str:
        return ctx.metadata

    return app


def batches(app: App, metadata: list[str]) -> list[int]:
    """The lengths of the batches that start_many asks to store."""
    verbs = Verbs(app.names, app.tasks, source=None, max_payload_bytes=2**30)  # type: ignore[arg-type]
    task: Any = app.tasks["echo"]
    storing = verbs.start_many(task, metadata, in_callers_transaction=False)
    lengths: list[int] = []
    try:
        next(storing)
        while True:
            known = sum(lengths)
            lengths.append(len(storing.gi_frame.f_locals["batch"]))
            storing.send(StartedMany(list(range(known, known + lengths[-1])), NOW, NOW))
    except StopIteration as end:
        started = end.value
    assert [job.metadata for job in started] == metadata
    return lengths


@pytest.mark.parametrize(
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
def test_batches_are_neither_long_nor_large(app: App, lengths: list[int], expected: list[int]) -> None:
    assert batches(app, ["x" * length for length in lengths]) == expected
