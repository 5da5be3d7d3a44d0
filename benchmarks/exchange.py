"""Drains the jobs of a design the way a worker does, without running anything: what is measured is the SQL.

Each lane is a connection with a thread of its own; it settles the batch that it has and claims the next in one libpq
pipeline, so with one commit and one round trip.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import psycopg

from perdure.store import arrays

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.designs import Design, Watermark

__all__ = ["Drain", "Floors", "Lane", "cpu_seconds", "drain", "prepare"]

WORKER = UUID("0190a8f0-5b1e-7cc3-98c4-dc0c0c07398f")
BATCH = 500
LANES = 2
_CHUNK = 10_000
_REMEMBERED_CLAIMS = 4
Band: TypeAlias = tuple[str, int]
Position: TypeAlias = tuple[datetime, int]
_RESULT = b'{"i":1,"ok":true}'


@dataclass(frozen=True, slots=True)
class Drain:
    """What a drain cost.

    Attributes:
        jobs_per_second: Jobs settled, from the first claim to the last settle.
        server_us: CPU microseconds a job of the backends that served the lanes.
        wal_bytes: Write-ahead log a job, of the whole server.
        misses: Share of exchanges whose settle met locked rows and had to come back.
    """

    jobs_per_second: float
    server_us: float
    wal_bytes: float
    misses: float


@dataclass(slots=True)
class Floors:
    """Where the claims of a worker start to look in each band: near where the last ones stopped.

    What is dead before that is stepped over only now and then: a little way back every 0.2 s (commits that were on
    their way), all of it every 5 s (whatever came late or was put back). So nothing is passed by for longer.

    Attributes:
        kind: By a second of due time always, or by the lowest position that the last few claims reached.
    """

    kind: Watermark
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reached: dict[Band, deque[Position]] = field(default_factory=dict)
    _back_at_seconds: float = 0.0
    _front_at_seconds: float = 0.0

    def parameters(self) -> dict[str, Any]:
        """Return the claim's parameters."""
        now_seconds = time.monotonic()
        with self._lock:
            known = {band: min(positions) for band, positions in self._reached.items()}
        if now_seconds >= self._front_at_seconds:
            self._front_at_seconds = now_seconds + 5.0
            known = {}
        elif self.kind == "second" or now_seconds >= self._back_at_seconds:
            self._back_at_seconds = now_seconds + 0.2
            known = {band: (due_at - timedelta(seconds=1), 0) for band, (due_at, _) in known.items()}
        return {
            "floor_queues": [queue for queue, _ in known],
            "floor_priorities": [priority for _, priority in known],
            "floor_ats": [due_at for due_at, _ in known.values()],
            "floor_ids": [id_ for _, id_ in known.values()],
        }

    def learn(self, rows: list[tuple[Any, ...]]) -> None:
        """Take note of what was claimed: all before it in its band is taken."""
        last: dict[Band, Position] = {}
        for id_, _attempt, queue, priority, due_at, *_ in rows:
            position = last.get((queue, priority))
            if position is None or position < (due_at, id_):
                last[queue, priority] = due_at, id_
        with self._lock:
            for band, position in last.items():
                self._reached.setdefault(band, deque(maxlen=_REMEMBERED_CLAIMS)).append(position)


class Lane:
    """One connection that settles and claims; the floors are shared by all lanes of a worker.

    Attributes:
        skipped: What the last settle stepped over: a claim that began before ours was committed meets our rows, locks
            their newest versions to look at them anew, and so has them locked until its end although it leaves them.
        exchanges: How many there were.
        misses: After how many something was skipped.
    """

    def __init__(self, dsn: str, design: Design, floors: Floors) -> None:
        """Connect."""
        self.connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=0)
        arrays.register(self.connection)
        for statement in design.session:
            self.connection.execute(statement)
        self.skipped: list[tuple[Any, ...]] = []
        self.exchanges = self.misses = 0
        self._design = design
        self._floors = floors

    def exchange(self, held: list[tuple[Any, ...]], want: int = BATCH) -> list[tuple[Any, ...]]:
        """End what is held, all completed, and return what was claimed."""
        design, connection = self._design, self.connection
        held.sort()
        claiming = connection.cursor(binary=True)
        settling = connection.cursor(binary=True)
        claim: dict[str, Any] = {"worker": WORKER, "want": want, "queues": None}
        if design.watermark:
            claim |= self._floors.parameters()
        if not design.settle:
            claiming.execute(design.claim, {**claim, "ids": arrays.int8s([row[0] for row in held])})
            return claiming.fetchall()
        with connection.pipeline() if held else nullcontext():
            if held:
                settling.execute(design.settle, _outcomes(held, collapse_nulls=design.collapse_nulls))
            claiming.execute(design.claim, claim)
        self.skipped = []
        if held and settling.fetchone() != (len(held),):
            self.skipped = self._still_running(held)
            self.misses += 1
        self.exchanges += 1
        rows = claiming.fetchall()
        if design.watermark:
            self._floors.learn(rows)
        return rows

    def _still_running(self, held: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        ids = [row[0] for row in held]
        found = self.connection.execute("select id from jobs where state = 2 and id = any(%s)", [ids]).fetchall()
        open_ids = {row[0] for row in found}
        return [row for row in held if row[0] in open_ids]


def _outcomes(held: list[tuple[Any, ...]], *, collapse_nulls: bool) -> dict[str, Any]:
    count = len(held)
    nulls = [None] * count
    return {
        "worker": WORKER,
        "ids": arrays.int8s([row[0] for row in held]),
        "attempts": arrays.int4s([row[1] for row in held]),
        "checkpoints": arrays.int4s([row[7] for row in held]),
        "states": arrays.int2s([6] * count),
        "results": arrays.jsons([_RESULT] * count),
        "result_blob": _RESULT * count,
        "result_ends": arrays.int4s(range(len(_RESULT), len(_RESULT) * count + 1, len(_RESULT))),
        "result_lengths": arrays.int4s([len(_RESULT)] * count),
        # An array of nothing but nulls is searched, row by row, for what can't be there.
        "execution_metadata": None if collapse_nulls else arrays.jsonbs(nulls),
        "errors": None if collapse_nulls else arrays.jsons(nulls),
    }


def prepare(dsn: str, design: Design, count: int) -> list[Lane]:
    """Make the tables, fill them, and connect the lanes."""
    floors = Floors(design.watermark)
    lanes: list[Lane] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in design.schema.split(";\n"):
            psycopg.ClientCursor(connection).execute(statement, {"worker": WORKER})
        if design.fresh:
            lanes += (Lane(dsn, design, floors) for _ in range(LANES))
            _meet_empty_tables(lanes, design)
        for first in range(1, count + 1, _CHUNK):
            connection.execute(design.fill, {"first": first, "count": min(_CHUNK, count + 1 - first)})
        if not design.fresh:
            connection.execute("vacuum (analyze)")
            lanes += (Lane(dsn, design, floors) for _ in range(LANES))
        connection.execute("checkpoint")
    return lanes


def _meet_empty_tables(lanes: list[Lane], design: Design) -> None:
    """Let every connection plan its statements now, often enough for a generic plan."""
    nobody = [(0, 0, "", 0, None, "", 0, 0)]
    for lane in lanes:
        for _ in range(6):
            lane.exchange([])
            if design.settle:
                lane.connection.execute(
                    design.settle, _outcomes(nobody, collapse_nulls=design.collapse_nulls), binary=True
                )


def drain(dsn: str, design: Design, count: int) -> Drain:
    """Fill, then settle and claim until nothing is left."""
    lanes = prepare(dsn, design, count)
    failures: list[BaseException] = []
    with ExitStack() as stack:
        for lane in lanes:
            stack.enter_context(lane.connection)
        watcher = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        backends = [lane.connection.info.backend_pid for lane in lanes]
        threads = [threading.Thread(target=_guarded, args=(_empty, lane, failures)) for lane in lanes]
        cpu, wal, began = cpu_seconds(backends), _wal(watcher), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took, cpu, wal = time.perf_counter() - began, cpu_seconds(backends) - cpu, _wal(watcher) - wal
        if failures:
            raise failures[0]
        row = watcher.execute(design.finished).fetchone()
        if row != (count,):
            message = f"{count} jobs were stored, and {row} finished: the design is wrong"
            raise RuntimeError(message)
    misses = sum(lane.misses for lane in lanes) / max(1, sum(lane.exchanges for lane in lanes))
    return Drain(count / took, 1e6 * cpu / count, wal / count, misses)


def _guarded(work: Callable[[Lane], None], lane: Lane, failures: list[BaseException]) -> None:
    try:
        work(lane)
    except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
        failures.append(error)


def _empty(lane: Lane) -> None:
    held: list[tuple[Any, ...]] = []
    while True:
        rows = lane.exchange(held)
        if not rows and not held:
            return
        held = lane.skipped + rows


def cpu_seconds(processes: list[int]) -> float:
    """Return the time on a CPU, user and system, by the kernel's nanosecond counter."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) for pid in processes) / 1e9


def _wal(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("select (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    assert row is not None  # noqa: S101 - one row, always
    return int(row[0])
