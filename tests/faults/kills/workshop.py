"""Workers that run into failpoints, jobs of every kind to feed them with, and the outside world that jobs wait for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import psutil
import psycopg

from perdure import CancelRequested, failpoints
from tests.faults.kills.tasks import EFFECTS, KINDS, TOLD, TOTAL, Number, make
from tests.support.history import History, journal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
    from types import TracebackType

    from tests.support.processes import Process, Processes

__all__ = ["BODIES", "POINTS", "Victim", "Workshop"]

_ROOT = Path(__file__).parents[3]
_DEADLINE_SECONDS = 90.0
_LOOK_SECONDS = 0.03
_LOOKS_A_NAP = 20
_CANCELS = 0.2  # at each look: some are cancelled before they begin, some while they run
_MOST = 3
_MOST_IN_BODIES = 8  # of the few jobs of a kind that run at once, some are at their last piece by then

BODIES = tuple(f"body of {name}" for name in (*KINDS, TOLD))
ANSWERED = "cancel answered"
"""When the test's client has got the answer to a cancel of one of the worker's jobs."""
# Of bulk starts and migrations there are tests of their own. A worker that puts back is full: it sends nothing else.
_NOT_HERE = ("batch", "migration", "put back.uncommitted")
POINTS = (*(point for point in failpoints.POINTS if not point.startswith(_NOT_HERE)), *BODIES, ANSWERED)
"""Where a worker can die or freeze: the failpoints of workers, in the body of each kind's handler, and at a cancel."""
_FED = {"plain": [0.0, 0.0], "cancels": [False, True]}


@dataclass
class Victim:
    """A worker that is to die or freeze, and where."""

    point: str
    process: Process
    action: str

    @property
    def is_hit(self) -> bool:
        """Whether that has come about."""
        if self.action == "kill":
            return not self.process.is_running
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED
        return False


class Workshop:
    """A database with jobs of every kind, and the workers that a test starts on it.

    Attributes:
        started: The ids of all jobs that were started, by kind.
        cancelled: In which attempt each job was whose cancel was answered `CancelRequested`.
        cancels_by_itself: Whether the outside world cancels what is to be cancelled, sooner or later.
        table: A connection to look into the database with.
    """

    def __init__(self, dsn: str, processes: Processes, seed: int) -> None:
        self.started: dict[str, list[int]] = {kind: [] for kind in KINDS}
        self._dsn = dsn
        self._processes = processes
        self._random = random.Random(seed)
        self._client = make(dsn)
        self._sent: dict[int, int] = {}
        self.cancelled: dict[int, int] = {}
        self.cancels_by_itself = True
        self._ended: set[int] = set()
        self._left: Sequence[Victim] = ()
        self._baits: list[Victim] = []
        self._hit: list[Victim] = []
        self._gone: dict[str, bool] | None = None
        self._pauses = False

    async def __aenter__(self) -> Self:
        self.table = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)
        await self.table.execute("set search_path = background_tasks, public")
        await self.table.execute(EFFECTS.replace("effects", "public.effects"))
        await asyncio.to_thread(journal.install, self._dsn)
        await self.table.execute("create table public.lost_leases (id uuid, lease_until timestamptz)")
        await self._client.open()
        self._world = asyncio.create_task(self._turn())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._world.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._world
        await self._client.close()
        await self.table.close()

    @property
    def ids(self) -> list[int]:
        """All jobs that were started."""
        return [job_id for ids in self.started.values() for job_id in ids]

    # --- workers ---

    def worker(self, **environment: str) -> Process:
        """Start a worker that lives until it is told to end."""
        settings = {"concurrency": self._random.choice([4, 20]), "shutdown_grace": 5, "cancel_grace": 1}
        variables = {"TEST_DSN": self._dsn, "TEST_EXECUTION": json.dumps(settings), **environment}
        return self._processes.python("-m", "tests.faults.kills.worker", env=variables, cwd=_ROOT)

    def victim(self, point: str, action: Literal["kill", "stop"], *, nth: int | None = None) -> Victim:
        """Start a worker that dies or freezes at a point, the n-th time that it comes by, or at some time."""
        first = 2 if point.startswith("heartbeat") and action == "stop" else 1  # the first time it has no lease yet
        rare = point.startswith(("sweep", "rescue", "stop", "defer", "put back", "sleep"))
        most = _MOST_IN_BODIES if point in BODIES else _MOST
        nth = nth or (first if rare else self._random.randint(first, most))
        name, plan = point.removeprefix("body of "), f"={action}@{nth}"
        environment = {"TEST_BODY" if point in BODIES else failpoints.VARIABLE: name + plan}
        if point == ANSWERED:
            environment = {}
        if point.startswith("defer"):
            environment["TEST_OLDER"] = "1"
        if point.startswith("put back"):
            settings = {"concurrency": 1, "shutdown_grace": 5, "cancel_grace": 1}
            environment["TEST_EXECUTION"] = json.dumps(settings)
        return Victim(point, self.worker(**environment), action)

    async def until_hit(self, victims: Sequence[Victim], kinds: Iterable[str] = KINDS) -> None:
        """Feed the victims until each has come to its point."""
        kinds = tuple(kinds)
        self._left, looks = victims, 0
        async with _within(lambda: "".join(f"not hit: {v.point}; it said:\n{v.process.output}\n" for v in self._left)):
            while left := [victim for victim in self._left if not victim.is_hit]:
                self._left = left
                await self._provoke(left)
                looks += 1
                # Who is fed whenever nothing is left never goes to sleep.
                may_sleep = any(v.point.startswith("sleep") for v in left) and looks % _LOOKS_A_NAP
                if not may_sleep and await self._count("state in (0, 3, 5) and scheduled_at <= now()") == 0:
                    await self.feed(kinds, hoarded=any(v.point.startswith("put back") for v in left))
                await self._look_again()
        self._left = ()
        for bait in self._baits:  # which may not have been needed
            bait.process.kill()
        self._hit += [*victims, *self._baits]
        for victim in victims:
            if victim.action == "kill":
                assert victim.process.wait() == -9, victim.process.output

    async def _provoke(self, left: Sequence[Victim]) -> None:
        """What some points need beside jobs: a worker that was lost, a stop."""
        needs_bait = any(victim.point.startswith(("sweep", "rescue")) for victim in left)
        if needs_bait and all(bait.is_hit for bait in self._baits) and not await self._count("worker_id is not null"):
            self._baits.append(self.victim("body of plain", "kill"))
        for victim in left:
            if victim.point == "stop.flushed" and "worker ready" in victim.process.output:
                victim.process.terminate()

    # --- jobs ---

    async def feed(self, kinds: Iterable[str] = KINDS, *, hoarded: bool = False) -> None:
        """Start a few jobs of each kind; `hoarded`: short ones before a long one, which are claimed ahead of it."""
        for kind in kinds:
            await self.start(kind, _FED.get(kind, [None, None]))
        if hoarded:
            await self.start("plain", [*[0.0] * 30, 2.5, *[0.0] * 10])

    async def start(self, kind: str, metadata: list[Any]) -> None:
        """Start jobs of one kind."""
        jobs = await self._client.tasks[kind].start_many(metadata)
        self.started[kind] += [job.id for job in jobs]

    async def until(self, condition: str) -> None:
        """Wait until the database says that something is so."""
        async with _within(lambda: condition):
            while not (await self.rows(f"select {condition}"))[0][0]:
                await self._look_again()

    async def until_all_have_ended(self) -> None:
        """Wait until no job is left."""
        left: list[tuple[Any, ...]] = []
        async with _within(lambda: f"jobs are left: {left}"):
            while left := await self.rows("select id, task, state, scheduled_at, worker_id, last_error from jobs"):
                await self._look_again()

    async def finish(self) -> None:
        """Let one more worker, which nothing happens to, bring everything to its end, and end itself."""
        last = self.worker()
        await last.line("worker ready", within_seconds=_DEADLINE_SECONDS)
        await self.until_all_have_ended()
        last.terminate()
        assert await last.end(within_seconds=_DEADLINE_SECONDS) == 0, last.output

    async def worker_that_waits(self, gate: Path) -> tuple[Process, list[int]]:
        """Start a worker whose handlers wait for a file, and let it take all; answers which jobs it has."""
        self._pauses = True
        settings = {"concurrency": 5000, "threads": 1000, "shutdown_grace": 5, "cancel_grace": 1}
        worker = self.worker(TEST_GATE=str(gate), TEST_EXECUTION=json.dumps(settings))
        await worker.line("worker ready", within_seconds=_DEADLINE_SECONDS)
        await self.until("(select count(*) = 1 from workers where lapsed_at is null)")
        await self.until(
            "not exists (select from jobs join workers on workers.id = worker_id where lapsed_at is not null)"
        )
        await self.until(  # suspects run one at a time, and the first of them waits, too
            "not exists (select from jobs "
            "where state in (0, 3, 5) and not suspect and scheduled_at <= clock_timestamp())"
        )
        held = await self.rows("select id from jobs where worker_id is not null order by id")
        return worker, [job_id for (job_id,) in held]

    def go_on(self, gate: Path) -> None:
        """Let the worker that waits go on, and the outside world with it."""
        gate.touch()
        self._pauses = False

    async def gone(self) -> dict[str, bool]:
        """Tell which workers were killed or frozen; True: killed. One that wakes up has another lease since."""
        if self._gone is not None:
            return self._gone
        last = dict(
            await self.rows("select distinct on (pid) pid, worker::text from history.workers order by pid, at desc")
        )
        return {last[v.process.pid]: v.action == "kill" for v in self._hit if v.process.pid in last}

    async def remember_leases(self) -> None:
        """Write down who is gone, and which leases are lost: a worker that wakes up removes its own."""
        self._gone = await self.gone()
        await self.table.execute(
            "insert into lost_leases select id, lease_until from workers where lapsed_at is not null"
        )

    async def until_lapses_are_taken_back(self) -> None:
        """Wait until those that woke up have reported, and none of their lapses counts any more."""
        back = [worker for worker, was_killed in (await self.gone()).items() if not was_killed]
        await self.until(
            f"not exists (select from jobs where lapses > 0 and lapsed_worker_id = any(array{back}::uuid[]))"
        )

    async def leave(self, victim: Victim) -> None:
        """Let a worker that was frozen notice what has become of it, and end."""
        if victim.point != "stop.flushed":  # which has nothing to lose any more
            await victim.process.line("has lost its lease", within_seconds=_DEADLINE_SECONDS)
            victim.process.terminate()
        assert await victim.process.end(within_seconds=_DEADLINE_SECONDS) == 0, victim.process.output

    async def until_no_transaction_is_open(self) -> None:
        """Wait until the server has noticed that the clients have gone, and holds nothing for them."""
        held: list[tuple[Any, ...]] = []
        async with _within(lambda: f"transactions are open: {held}"):
            while held := await self.rows(
                "select application_name, state, query from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null"
            ):
                await self._look_again()

    def history(self) -> History:
        """Read the log of all that was written to the jobs."""
        with psycopg.connect(self._dsn) as connection:
            return History(images=journal.read_images(connection))

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Read from the database."""
        return await (await self.table.execute(query.encode())).fetchall()

    async def _count(self, condition: str) -> int:
        return int((await self.rows(f"select count(*) from jobs where {condition}"))[0][0])

    async def _look_again(self) -> None:
        if self._world.done():
            self._world.result()
        await asyncio.sleep(_LOOK_SECONDS)

    async def _turn(self) -> None:
        """The outside world: it sends each job its events, in order, and lets go on what waits for that."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._pauses:
                continue
            waiting = await self.rows(
                "select id from jobs where task = 'suspend' and state = 4 and scheduled_at is null"
            )
            for (job_id,) in waiting:
                await self._client.proceed(job_id)
            for job_id in self.started["events"]:
                sent = self._sent.get(job_id, 0)
                if sent < TOTAL and self._random.random() < 0.3:
                    await self._client.tasks["events"].send(job_id, Number(sent))
                    self._sent[job_id] = sent + 1
            for job_id in self.started["cancels"] if self.cancels_by_itself else ():
                if job_id not in self.cancelled and job_id not in self._ended and self._random.random() < _CANCELS:
                    await self.cancel(job_id)

    async def cancel(self, job_id: int) -> None:
        """Cancel a job; whoever has it and waits for that is hit, once it is answered."""
        answer = await self._client.cancel(job_id)
        if not isinstance(answer, CancelRequested):
            self._ended.add(job_id)
            return
        self.cancelled[job_id] = answer.job.attempt
        holders = await self.rows(
            f"select pid from workers join jobs on worker_id = workers.id where jobs.id = {job_id}"
        )
        for victim in self._left:
            if victim.point == ANSWERED and (victim.process.pid,) in holders:
                victim.process.kill() if victim.action == "kill" else victim.process.freeze()


@contextlib.asynccontextmanager
async def _within(complaint: Callable[[], str]) -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            yield
    except TimeoutError:
        message = f"not within {_DEADLINE_SECONDS} s: {complaint()}"
        raise AssertionError(message) from None
