"""Everything that a worker asks of the database, cut at every place: no invariant breaks, all jobs come to their end.

The jobs are a scenario's, one worker runs in this process and goes through the proxy, pool and all; the client and the
checkers go directly.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest

from perdure import App
from tests.faults.network.cuts import cuts
from tests.support.history import Recorder, Rules, collect, journal, violations
from tests.support.history.lines import Answered, Asked
from tests.support.marks import mark
from tests.support.scenario.clients import Client
from tests.support.scenario.crew import Crew
from tests.support.scenario.observer import Observer
from tests.support.scenario.tasks import define
from tests.support.tiers import count

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.support.processes import Processes
    from tests.support.proxy import Cut, Proxy

SETTINGS: dict[str, dict[str, Any]] = {
    "scheduling": {"polling_delay": 0.1, "scheduler_retry_count": 2, "scheduler_retry_delays": [0]},
    "execution": {"lease_duration": 3, "max_retry_count": 1, "max_lapses": 100, "shutdown_grace": 5, "threads": 4},
}
_CUT_SECONDS = 25.0
_REST_SECONDS = 50.0


class Operation(NamedTuple):
    """Something that a worker asks for.

    Attributes:
        statement: What is cut.
        acts: What the jobs do that make it ask.
        threaded: Whether they do it in a thread.
        kind: "spoilt": beside a job that nobody can read; "hoarded": many short ones around a long one, one at a time.
    """

    statement: bytes
    acts: tuple[str, ...] = ("effect",)
    threaded: bool = False
    kind: str = ""


OPERATIONS = {
    "claim": Operation(mark("claim"), ()),
    "bands": Operation(mark("bands"), ()),
    "claim from the only band": Operation(mark("claim_band"), ()),
    "finish": Operation(mark("finish"), ()),
    "persist": Operation(mark("persist"), ("effect", "effect", "effect")),
    "persist of a thread": Operation(mark("persist"), ("effect", "effect"), threaded=True),
    "step": Operation(mark("persist"), ("step", "step")),
    "steps": Operation(mark("steps"), ("step", "nap", "step")),
    "sleep": Operation(mark("begin_sleep"), ("sleep", "effect")),
    "suspend": Operation(mark("release"), ("pause", "effect")),
    "suspend until": Operation(mark("release"), ("nap", "effect")),
    "retry": Operation(mark("release"), ("raise", "effect")),
    "fail": Operation(mark("release"), ("fail", "effect")),
    "cancelled": Operation(mark("finish"), ("effect", "cancel")),
    "begin": Operation(b"begin; set local idle", ("row", "row")),
    "row": Operation(b"insert into history.effects", ("row", "row")),
    "fence and commit": Operation(mark("fence"), ("row", "row", "row")),
    "fence and commit of a thread": Operation(mark("fence"), ("row", "row", "row"), threaded=True),
    "next event": Operation(mark("next_event"), ("wait", "wait")),
    "next event of a thread": Operation(mark("next_event"), ("wait",), threaded=True),
    "consumption of an event": Operation(mark("consume"), ("wait", "wait")),
    "suspend without an event": Operation(mark("wake_unread"), ("wait",)),
    "settings of a session": Operation(mark("session")),
    "registration": Operation(mark("register_worker")),
    "renewal": Operation(mark("renew_lease"), ("work", "effect")),
    "falling asleep": Operation(mark("sleep")),
    "sweep": Operation(mark("sweep")),
    "search for strays": Operation(mark("strays")),
    "rounds": Operation(mark("heal_bands")),
    "deferral": Operation(mark("defer"), kind="spoilt"),
    "put back": Operation(mark("put_back"), ("work",) * 20, kind="hoarded"),
}
RESCUES = ("sweep", "lapsed_jobs", "release", "commit")


class Stage:
    """The worker's app behind the proxy, a client before it, and the history of both."""

    def __init__(self, proxy: Proxy, folder: Path) -> None:
        self.proxy = proxy
        self.folder = folder
        self.recorder = Recorder(folder, "test")
        self.observer = Observer(proxy.direct_dsn, "background_tasks")
        self.app = App(proxy.dsn, **SETTINGS)
        define(self.app, Recorder(folder, "handlers"))
        journal.install(proxy.direct_dsn)

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncGenerator[Client]:
        """Open a client."""
        app = App(self.proxy.direct_dsn)
        tasks = define(app, None)
        async with app:
            yield Client("client", app, tasks, Recorder(self.folder, "client"), random.Random(1))

    def spoil(self) -> None:
        """Put a row between the others that can't be read."""
        jobs = tuple(self.observer.spoil([("nobody.knows", "{}", "{}")]))
        self.recorder.write(Asked(len(self.observer.spoilt), "spoil", (), jobs))
        self.recorder.write(Answered(len(self.observer.spoilt), "Spoilt"))

    async def rest(self, client: Client) -> None:
        """Let on what waits, until all has ended."""
        async with asyncio.timeout(_REST_SECONDS):
            while look := await asyncio.to_thread(self.observer.look):
                if not look.live:
                    return
                for waiting in look.waiting:
                    await client.ask(waiting.verb, waiting.job, waiting.task)
                await asyncio.sleep(0.02)

    def assert_holds(self) -> None:
        """Check every invariant."""
        scheduling, execution = SETTINGS["scheduling"], SETTINGS["execution"]
        rules = Rules(
            scheduler_retry_count=scheduling["scheduler_retry_count"],
            max_retry_count=execution["max_retry_count"],
            max_lapses=execution["max_lapses"],
            is_weathered=True,
        ).timed(scheduling["polling_delay"])
        assert violations(collect(self.proxy.direct_dsn, self.folder, rules)) == []


@pytest.fixture
def stage(proxy: Proxy, tmp_path: Path) -> Stage:
    return Stage(proxy, tmp_path)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_cut_breaks_nothing(stage: Stage, name: str) -> None:
    operation = OPERATIONS[name]
    async with stage.client() as client, stage.app:
        for cut in cuts(name, both=False) * count(push=1, nightly=4):
            await _cut_once(stage, client, operation, cut)
    stage.assert_holds()


async def _cut_once(stage: Stage, client: Client, operation: Operation, cut: Cut) -> None:
    proxy, is_hoarded = stage.proxy, operation.kind == "hoarded"
    if operation.kind == "spoilt":
        stage.spoil()
    proxy.arm(operation.statement, cut)
    if is_hoarded:
        await client.start(30, acts=(), threaded=False)
        # How long each is, goes by its id: of three, one takes two seconds at least.
        await client.start(3, acts=operation.acts, threaded=False)
        await client.start(30, acts=(), threaded=False)
    async with stage.app.worker(concurrency=1 if is_hoarded else 20):
        if not is_hoarded:
            await client.start(3, acts=operation.acts, threaded=operation.threaded)
        await _until_broken(stage, client)
        await stage.rest(client)


async def _until_broken(stage: Stage, client: Client) -> None:
    """Let the jobs on until the cut has come."""
    broken = asyncio.create_task(stage.proxy.broken.wait())
    async with asyncio.timeout(_CUT_SECONDS):
        while not broken.done():
            look = await asyncio.to_thread(stage.observer.look)
            for waiting in () if look is None else look.waiting:
                await client.ask(waiting.verb, waiting.job, waiting.task)
            await asyncio.wait({broken}, timeout=0.02)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("statement", RESCUES)
async def test_a_rescue_that_is_cut_is_made_again(
    stage: Stage, processes: Processes, tmp_path: Path, statement: str
) -> None:
    crew = Crew(processes, stage.recorder, dsn=stage.proxy.direct_dsn, folder=tmp_path, settings=SETTINGS)
    async with stage.client() as client, stage.app:
        for cut in cuts(f"rescue {statement}", both=False):
            await crew.start(1)
            await client.start(10, acts=["effect", "row", *["work"] * 10, "row"], threaded=False)
            await _until_running(stage)
            for worker in crew.workers:
                crew.send(worker, signal.SIGKILL)
                await worker.end()
            whole = statement == "commit"
            stage.proxy.arm(b"COMMIT" if whole else mark(statement), cut, whole=whole)
            async with stage.app.worker():
                await asyncio.wait_for(stage.proxy.broken.wait(), _CUT_SECONDS)
                await stage.rest(client)
    assert crew.complaints == []
    stage.assert_holds()


async def _until_running(stage: Stage) -> None:
    async with await psycopg.AsyncConnection.connect(stage.proxy.direct_dsn, autocommit=True) as connection:
        async with asyncio.timeout(30):
            while True:
                cursor = await connection.execute("select count(*) from background_tasks.jobs where state = 2")
                [(running,)] = await cursor.fetchall()
                if running >= 5:  # of ten, some of which are quick
                    return
                await asyncio.sleep(0.02)
