"""What a history is made of is kept: lines outlive a kill, and the log holds each committed move and no other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure import App, Context, JobState, Suspended
from tests.support.history import Recorder, Rules, collect, journal, read_lines
from tests.support.history.lines import Began, Effect
from tests.support.jobs import is_in

if TYPE_CHECKING:
    from tests.support.processes import Processes

_ROOT = Path(__file__).parents[2]
_WRITER = """
import sys
from pathlib import Path
from tests.support.history import Recorder
from tests.support.history.lines import Effect

recorder = Recorder(Path(sys.argv[1]), "writer")
print("begins", flush=True)
for number in range(10_000_000):
    recorder.write(Effect(1, 1, number))
"""


@dataclass
class Place:
    rows: int = 0
    writer: int = 0


def test_a_kill_tears_the_last_line_at_most(processes: Processes, tmp_path: Path) -> None:
    for _ in range(3):
        writer = processes.python("-c", _WRITER, str(tmp_path), env={"PYTHONPATH": str(_ROOT)})
        writer.wait_for_line("begins")
        writer.kill()
    for path in tmp_path.glob("*.jsonl"):
        lines = list(read_lines(path))
        assert [line.number for line in lines if isinstance(line, Effect)] == list(range(len(lines)))


def test_a_torn_last_line_is_left_out_and_any_other_is_an_error(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "some")
    recorder.write(Began(1, 1, 10))
    recorder.write(Began(1, 2, 10))
    whole = recorder.path.read_bytes()
    recorder.path.write_bytes(whole[:-10])
    assert [line.attempt for line in read_lines(recorder.path) if isinstance(line, Began)] == [1]
    recorder.path.write_bytes(whole[:20] + b"\n" + whole[20:])
    with pytest.raises(ValueError, match="line 1"):
        list(read_lines(recorder.path))


async def test_the_log_has_each_committed_move_in_its_order(migrated_database: str, tmp_path: Path) -> None:
    journal.install(migrated_database)
    app = App(migrated_database, scheduling={"scheduler_retry_delays": [0]})

    @app.task("short")
    async def short(ctx: Context[dict[str, str], Place]) -> int | Suspended:
        place = ctx.execution_metadata
        place.writer = ctx.attempt
        if ctx.attempt == 1:
            async with ctx.transaction() as connection:
                await connection.execute(
                    "insert into history.effects (job, number, attempt) values (%s, 0, 1)", [ctx.id]
                )
                place.rows += 1
            async with ctx.transaction():
                place.rows += 1
                raise ConnectionError
        if ctx.attempt == 2:
            return Suspended()
        return ctx.attempt

    async with app:
        job = await short.start({"key": "a"})
        async with app.worker():
            await is_in(job, JobState.SUSPENDED)
            await app.proceed(job.id)
            assert await job.result(timeout=30) == 3
    history = collect(migrated_database, tmp_path, Rules())
    # A waiter writes to the row as well, whenever that is: moves of state are looked at.
    states = [state for state, _ in groupby(move.states[1] for move in history.moves[job.id])]
    assert states == ["pending", "running", "retrying", "running", "suspended", "proceeded", "running", "completed"]
    assert [row.key for row in history.rows] == ["a"]
    [(number, transaction)] = [(row.number, row.transaction) for row in history.effects]
    [checkpoint] = [after for _, after in history.moves[job.id] if after is not None and after.place.get("rows") == 1][
        :1
    ]
    assert (number, transaction) == (0, checkpoint.transaction)
    assert len(history.workers) == 1


def test_what_is_rolled_back_isnt_in_the_log(migrated_database: str, tmp_path: Path) -> None:
    journal.install(migrated_database)
    with psycopg.connect(migrated_database) as connection:
        connection.execute(
            "insert into background_tasks.jobs (task, queue, priority, created_at, metadata, execution_metadata) "
            "values ('a', 'default', 0, now(), '{}', '{}')"
        )
        connection.rollback()
    assert collect(migrated_database, tmp_path, Rules()).images == []
