"""Payloads of other versions of the code, on real workers: brought up, stored so, or waiting without harm."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pytest_asyncio

import perdure.blocking
from perdure import App, Context, Job, JobState, Suspended
from tests.support.jobs import until
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.support.processes import Process, Processes

SCRIPT = str(Path(__file__).with_name("versions_app.py"))
SCHEDULING = {"polling_delay": 0.05, "scheduler_retry_count": 5, "scheduler_retry_delays": [0]}
EXECUTION = {"shutdown_grace": 0.2, "cancel_grace": 0.2}


@dataclass
class Meta:
    """Version 3 of the metadata."""

    shop: str
    country: str


@dataclass
class Progress:
    """Version 3 of the execution metadata."""

    pages: list[int] = field(default_factory=list)


@dataclass
class Approved:
    """Version 3 of the events."""

    by: str
    why: str


def first(kind: str, data: Any) -> Any:
    match kind:
        case "metadata":
            return {"shop": data}
        case "execution_metadata":
            return {"page": data}
        case _:
            return {"by": data}


def second(kind: str, data: Any) -> Any:
    match kind:
        case "metadata":
            return {**data, "country": "lv"}
        case "execution_metadata":
            return {"pages": [data["page"]]}
        case _:
            return {**data, "why": "?"}


UPGRADES = {1: first, 2: second}


class Rows:
    """Looks at jobs' rows."""

    def __init__(self, dsn: str) -> None:
        self.connection: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True)

    def columns(self, job: Job[Any, Any, Any, Any], names: str) -> tuple[Any, ...]:
        """Read columns of a live job."""
        row: Any = self.connection.execute(
            f"select {names} from background_tasks.jobs where id = %s".encode(), [job.id]
        ).fetchone()
        found: tuple[Any, ...] = row
        return found

    def set(self, job: Job[Any, Any, Any, Any], settings: str) -> None:
        """Change columns of a live job."""
        self.connection.execute(f"update background_tasks.jobs set {settings} where id = %s".encode(), [job.id])

    async def until_deferred(self, job: Job[Any, Any, Any, Any], times: int) -> None:
        """Wait until a job was found unreadable so often."""
        await until(lambda: self.columns(job, "unreadable, state") == (times, 0), f"deferred {times} times")


@pytest.fixture
def rows(migrated_database: str) -> Iterator[Rows]:
    made = Rows(migrated_database)
    yield made
    made.connection.close()


@pytest_asyncio.fixture
async def make_app(migrated_database: str) -> AsyncIterator[Callable[[], App]]:
    """Make apps of their own on one database, to be opened by the test."""

    def make() -> App:
        return App(migrated_database, scheduling=SCHEDULING, execution=EXECUTION)

    yield make


def task_of_version_1(app: App) -> Any:
    @app.task("t", events=str)
    async def task(ctx: Context[str, int]) -> str:
        return f"version 1 has done {ctx.metadata} from {ctx.execution_metadata}"

    return task


# --- brought up ---


async def test_all_payloads_are_brought_up_through_several_versions(make_app: Callable[[], App]) -> None:
    old, new = make_app(), make_app()
    old_task = task_of_version_1(old)

    @new.task("t", version=3, upgrades=UPGRADES, events=Approved)
    async def task(ctx: Context[Meta, Progress]) -> tuple[Meta, Progress, Approved]:
        event = await ctx.next_event()
        return ctx.metadata, ctx.execution_metadata, event

    async with old, new:
        job = await old_task.start("riga", 4)
        await old_task.send(job.id, "ann")
        async with new.worker():
            result = await (await new.job(job.id)).result(timeout=15)
        assert result == (Meta("riga", "lv"), Progress([4]), Approved("ann", "?"))


async def test_events_of_several_versions_come_in_their_order(make_app: Callable[[], App]) -> None:
    old, new = make_app(), make_app()
    old_task = task_of_version_1(old)

    @new.task("t", version=3, upgrades=UPGRADES, events=Approved)
    async def task(ctx: Context[Meta, Progress]) -> list[Approved] | Suspended:
        return [await ctx.next_event(), await ctx.next_event(), await ctx.next_event()]

    async with old, new:
        job = await old_task.start("riga", 4)
        await old_task.send(job.id, "ann")
        await task.send(job.id, Approved("bob", "because"))
        await old_task.send(job.id, "eve")
        async with new.worker():
            result = await (await new.job(job.id)).result(timeout=15)
        assert result == [Approved("ann", "?"), Approved("bob", "because"), Approved("eve", "?")]


@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_both_are_stored_as_the_new_version_before_the_handler_runs(
    make_app: Callable[[], App], rows: Rows, kind: str
) -> None:
    old, new = make_app(), make_app()
    old_task = task_of_version_1(old)
    seen: list[tuple[Any, ...]] = []

    def look(job_id: int) -> None:
        names = "version, metadata, execution_metadata, checkpoint, claim_checkpoint"
        seen.append(
            rows.connection.execute(
                f"select {names} from background_tasks.jobs where id = %s".encode(), [job_id]
            ).fetchone()
            or ()
        )

    if kind == "def":

        @new.task("t", version=3, upgrades=UPGRADES)
        def blocking(ctx: perdure.blocking.Context[Meta, Progress]) -> None:
            look(ctx.id)

    else:

        @new.task("t", version=3, upgrades=UPGRADES)
        async def task(ctx: Context[Meta, Progress]) -> None:
            look(ctx.id)

    async with old, new:
        job = await old_task.start("riga", 4)
        async with new.worker():
            await (await new.job(job.id)).result(timeout=15)
    # It is a checkpoint, but no progress of the attempt: a lost worker counts as it would have.
    assert seen == [(3, {"shop": "riga", "country": "lv"}, {"pages": [4]}, 1, 1)]


async def test_what_a_handler_persists_afterwards_follows_the_upgrade(make_app: Callable[[], App]) -> None:
    old, new = make_app(), make_app()
    old_task = task_of_version_1(old)
    read: list[tuple[int, list[int]]] = []

    @new.task("t", version=3, upgrades=UPGRADES)
    async def task(ctx: Context[Meta, Progress]) -> int:
        read.append((ctx.attempt, list(ctx.execution_metadata.pages)))
        ctx.execution_metadata.pages.append(5)
        await ctx.persist()
        if ctx.attempt == 1:
            message = "once"
            raise RuntimeError(message)
        return len(ctx.execution_metadata.pages)

    async with old, new:
        job = await old_task.start("riga", 4)
        async with new.worker():
            assert await (await new.job(job.id)).result(timeout=15) == 3
    assert read == [(1, [4]), (2, [4, 5])]


@pytest.fixture
def start_process(processes: Processes, migrated_database: str) -> Callable[..., Process]:
    def start(version: int, **environment: str) -> Process:
        settings = {"TEST_DSN": migrated_database, "TEST_VERSION": str(version), **environment}
        process = processes.python(SCRIPT, env=settings)
        process.wait_for_line("worker ready")
        return process

    return start


async def test_killed_right_after_it_the_next_attempt_reads_the_new_version(
    make_app: Callable[[], App], start_process: Callable[..., Process]
) -> None:
    app = make_app()

    @app.task("pages")
    async def pages(ctx: Context[int, list[str]]) -> str: ...

    async with app:
        job = await pages.start(7)
        killed = start_process(2, TEST_DIES="1")
        await killed.line("attempt 1 with Pages")
        assert await killed.end() == -9
        assert killed.output.count("upgrade of") == 2
        await job.refresh()
        assert (job.version, job.state) == (2, JobState.RUNNING)
        second_worker = start_process(2)
        await second_worker.line("attempt 2 with Pages")
        assert await job.result(timeout=20) == "version 2 has done 7"
        assert "upgrade of" not in second_worker.output


@pytest.mark.parametrize("kind", ["before", "after"])
async def test_an_upgrade_whose_answer_is_lost_is_written_once(
    make_app: Callable[[], App], migrated_database: str, rows: Rows, kind: Any
) -> None:
    old = make_app()
    old_task = task_of_version_1(old)
    ran: list[int] = []
    async with Proxy(migrated_database) as proxy:
        new = App(proxy.dsn, scheduling=SCHEDULING, execution=EXECUTION)

        @new.task("t", version=3, upgrades=UPGRADES)
        async def task(ctx: Context[Meta, Progress]) -> tuple[Meta, Progress]:
            ran.append(rows.columns(job, "checkpoint")[0])
            ctx.execution_metadata.pages.append(5)
            await ctx.persist()
            return ctx.metadata, ctx.execution_metadata

        async with old, new:
            job = await old_task.start("riga", 4)
            proxy.arm(b"claim_checkpoint = claim_checkpoint + 1", kind)
            async with new.worker():
                result = await (await new.job(job.id)).result(timeout=20)
            assert proxy.broken.is_set()
            assert result == (Meta("riga", "lv"), Progress([4, 5]))
            assert (await job.refresh()).attempt == 1
    assert ran == [1]


# --- what waits ---


def newer(app: App) -> None:
    task_of_version_1(app)


def undecodable(app: App) -> None:
    @app.task("t", version=3, events=Approved)
    async def task(ctx: Context[int, Progress]) -> None: ...


def without_upgrade(app: App) -> None:
    @app.task("t", version=4, events=Approved)
    async def task(ctx: Context[Meta, Progress]) -> None: ...


def raising(app: App) -> None:
    def upgrade(kind: str, data: Any) -> Any:
        if kind == "execution_metadata":
            message = "no way"
            raise LookupError(message)
        return data

    @app.task("t", version=4, upgrades={3: upgrade}, events=Approved)
    async def task(ctx: Context[Meta, Progress]) -> None: ...


def unknown(app: App) -> None:
    @app.task("another")
    async def another(ctx: Context[None, None]) -> None: ...


WAITING: dict[Callable[[App], None], str] = {
    newer: "t: metadata: it was written by version 3 of the task, and this code is version 1, so it takes newer code "
    "to read it",
    undecodable: "t: metadata: expected int, got object",
    without_upgrade: "t: metadata: it was written by version 3 of the task, and this code, version 4, has no upgrade "
    "from it (upgrades: none)",
    raising: "t: execution metadata: its upgrade from version 3 to 4 raised LookupError: no way",
    unknown: "no task named 't' is registered in this worker's app; it waits for one that has it",
}


def knowing(app: App) -> Any:
    @app.task("t", version=3, events=Approved)
    async def task(ctx: Context[Meta, Progress]) -> int:
        return ctx.attempt

    return task


@pytest.mark.parametrize(("define", "said"), WAITING.items(), ids=[each.__name__ for each in WAITING])
async def test_it_waits_with_a_clear_error_at_growing_delays_and_spends_nothing(
    make_app: Callable[[], App], rows: Rows, define: Callable[[App], None], said: str
) -> None:
    starter, worker = make_app(), make_app()
    task = knowing(starter)
    define(worker)

    @worker.task("neighbour")
    async def neighbour(ctx: Context[int, None]) -> int:
        return ctx.metadata

    async with starter, worker:
        job = await task.start(Meta("riga", "lv"), Progress([1]))
        began_at_seconds = time.monotonic()
        async with worker.worker(concurrency=1):
            delays: list[int] = []
            for number in (1, 2, 3):
                await until(
                    lambda number=number: rows.columns(job, "unreadable, state") == (number, 0),
                    f"deferred {number} times",
                )
                delays.append(round(rows.columns(job, "extract(epoch from scheduled_at - clock_timestamp())")[0]))
                neighbours = await neighbour.start_many(range(5))
                assert [await each.result(timeout=10) for each in neighbours] == list(range(5))
            assert time.monotonic() - began_at_seconds >= 3
            assert delays == [1, 2, 4]
            assert rows.columns(job, "claim, attempt, retry_number, scheduler_retries") == (3, 0, 0, 0)
            await job.refresh()
            assert (job.state, job.last_error) == (JobState.PENDING, said)
            assert rows.columns(job, "version, metadata, checkpoint") == (3, {"shop": "riga", "country": "lv"}, 0)
            # However often: a minute at most.
            rows.set(job, "unreadable = 40, scheduled_at = clock_timestamp()")
            await rows.until_deferred(job, 41)
            assert 58 <= rows.columns(job, "extract(epoch from scheduled_at - clock_timestamp())")[0] <= 60
        # A worker that starts with the code doesn't leave it waiting for that.
        async with starter.worker():
            assert await job.result(timeout=10) == 1
        assert (await job.refresh()).retry_number == 0


async def test_an_event_of_newer_code_waits_likewise_and_is_kept(make_app: Callable[[], App], rows: Rows) -> None:
    old, new = make_app(), make_app()

    @old.task("t", events=str)
    async def old_handler(ctx: Context[str, int]) -> str | None:
        return await ctx.next_event()

    @new.task("t", version=3, upgrades=UPGRADES, events=Approved)
    async def task(ctx: Context[Meta, Progress]) -> str:
        event = await ctx.next_event()
        return event.by

    async with old, new:
        job = await old_handler.start("riga", 4)
        await task.send(job.id, Approved("ann", "because"))
        async with old.worker():
            await rows.until_deferred(job, 1)
            await job.refresh()
            assert job.last_error is not None
            assert job.last_error.startswith("t: event 1: it was written by version 3 of the task")
            assert (job.retry_number, rows.columns(job, "scheduler_retries")) == (0, (0,))
        rows.set(job, "unreadable = 40, scheduled_at = clock_timestamp() + interval '60 s'")
        async with new.worker():
            assert await (await new.job(job.id)).result(timeout=10) == "ann"


# --- what the type doesn't have any more ---


@dataclass
class Shrunk:
    """Has lost a field."""

    page: int = 0


@pytest.mark.parametrize(("step", "left"), [(0, {"page": 1, "gone": 2}), (1, {"page": 2})])
async def test_a_lost_field_stays_stored_in_metadata_and_in_the_checkpoint_until_the_handler_changes_that(
    make_app: Callable[[], App], step: int, left: dict[str, int]
) -> None:
    old, new = make_app(), make_app()

    @old.task("t")
    async def before(ctx: Context[dict[str, int], dict[str, int]]) -> None: ...

    @new.task("t")
    async def task(ctx: Context[Shrunk, Shrunk]) -> int:
        ctx.execution_metadata.page += step
        return ctx.metadata.page

    async with old, new:
        job = await before.start({"page": 5, "gone": 6}, {"page": 1, "gone": 2})
        async with new.worker():
            assert await (await new.job(job.id)).result(timeout=10) == 5
        await job.refresh()
        assert (job.metadata, job.execution_metadata) == ({"page": 5, "gone": 6}, left)


# --- a rolling deploy ---


class Deploy:
    """Apps of two versions; their handlers note who runs what, and need three attempts, each of which is anybody's."""

    def __init__(self, make_app: Callable[[], App]) -> None:
        self.ran: dict[int, list[int]] = defaultdict(list)
        self._both_have_begun = asyncio.Event()
        self._make_app = make_app

    def old(self) -> App:
        """Make an app of version 1."""
        app = self._make_app()

        @app.task("t")
        async def task(ctx: Context[int, int]) -> int:
            return await self._run(ctx, 1, ctx.metadata)

        return app

    def new(self) -> App:
        """Make an app of version 2."""
        app = self._make_app()

        @app.task("t", version=2, upgrades={1: lambda kind, data: [data] if kind == "metadata" else data})
        async def task(ctx: Context[list[int], int]) -> int:
            return await self._run(ctx, 2, ctx.metadata[0])

        return app

    async def _run(self, ctx: Context[Any, int], version: int, number: int) -> int:
        self.ran[ctx.id].append(version)
        if {1, 2} <= {each for versions in self.ran.values() for each in versions}:
            self._both_have_begun.set()
        await self._both_have_begun.wait()
        ctx.execution_metadata += 1
        await ctx.persist()
        if ctx.execution_metadata < 3:
            message = "not yet"
            raise RuntimeError(message)
        return number


async def test_old_and_new_workers_side_by_side_complete_every_job_and_the_old_never_runs_what_the_new_has_upgraded(
    make_app: Callable[[], App],
) -> None:
    deploy = Deploy(make_app)
    old, new, last = deploy.old(), deploy.new(), deploy.new()
    async with old, new, last:
        jobs = await old.tasks["t"].start_many(range(12), 0)
        jobs_of_new = await new.tasks["t"].start_many([[number] for number in range(12, 15)], 0)
        async with new.worker(concurrency=4):
            async with old.worker(concurrency=4):
                # Those of the new version may meet the old worker several times, and wait longer each time.
                await until(lambda: {job.id for job in jobs} <= deploy.ran.keys(), "the old version's jobs were begun")
            async with last.worker(concurrency=4):  # the last old one has been replaced
                results = [await job.result(timeout=15) for job in [*jobs, *jobs_of_new]]
        assert results == list(range(15))
        for versions in deploy.ran.values():
            assert versions == sorted(versions)
            assert len(versions) >= 3
        assert any(1 in versions for versions in deploy.ran.values())
        for job in jobs_of_new:
            assert set(deploy.ran[job.id]) == {2}


async def test_processes_of_two_versions_share_a_queue(
    make_app: Callable[[], App], start_process: Callable[..., Process]
) -> None:
    app = make_app()

    @app.task("pages")
    async def pages(ctx: Context[int, list[str]]) -> str: ...

    async with app:
        workers = [start_process(1), start_process(2)]
        jobs = await pages.start_many(range(200))
        for number, job in enumerate(jobs):
            said = await job.result(timeout=20)
            assert said in (f"version 1 has done {number}", f"version 2 has done {number}")
        for worker in workers:
            worker.terminate()
            assert await worker.end() == 0
