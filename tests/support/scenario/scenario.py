"""One run: workers, clients, a fault that is done to them; then rest, and all invariants checked.

await Scenario(dsn, folder, processes, seed=417).must_hold(kill_workers)
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg

from perdure import App
from tests.support.history import History, Pulse, Recorder, Rules, collect, journal, violations
from tests.support.history.lines import Calmed
from tests.support.scenario import deadlines
from tests.support.scenario.clients import Client
from tests.support.scenario.crew import Crew
from tests.support.scenario.observer import Observer
from tests.support.scenario.phases import rest, spoil, under
from tests.support.scenario.tasks import define

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from tests.support.history.lines import Fault
    from tests.support.processes import Processes
    from tests.support.scenario.deadlines import Deadlines
    from tests.support.scenario.phases import Struck
    from tests.support.scenario.tasks import Tasks

__all__ = ["Scenario", "draw_settings", "rules_of"]

_SCHEMA = "background_tasks"
_PACE_SECONDS = 0.04
_LOOK_SECONDS = 0.1
_SLACK_SECONDS = 30.0
_SHARE_OF_LIMITED = 0.1
_LEAST_ACKNOWLEDGED = 20
_LONGER_SECONDS = 60.0
# On a machine that is slow just then a job isn't begun before its deadline.
_SURE_DEADLINE_SECONDS = (1.0, 4.0, 15.0, 30.0)


class Scenario:
    """Workers and clients on one database, all drawn from a seed.

    Attributes:
        dsn: The database.
        random: What the fault draws from.
        crew: The workers.
        observer: The database, looked at directly.
        lease_seconds: How long the workers' leases last.
        clients: The clients, once there are any.
    """

    def __init__(
        self,
        dsn: str,
        folder: Path,
        processes: Processes,
        *,
        seed: int,
        seconds: float = 6.0,
        workers: int = 3,
        clients: int = 2,
        worker_dsn: str | None = None,
        client_dsn: str | None = None,
        execution: Mapping[str, Any] | None = None,
        scheduling: Mapping[str, Any] | None = None,
        deadlines_given: bool = True,
        environment: Callable[[int], Mapping[str, str]] | None = None,
        tolerates: Callable[[int], bool] = lambda _code: False,
    ) -> None:
        """Prepare a run on a migrated database; the transition log is installed into it.

        Args:
            dsn: The database; what looks at it connects here.
            folder: An empty one, for lines.
            processes: Starts the workers.
            seed: Decides what clients and faults draw.
            seconds: How long clients ask, and the fault is done.
            workers: How many worker processes there are.
            clients: How many clients.
            worker_dsn: How workers reach the database, if otherwise (a proxy).
            client_dsn: How clients do.
            execution: Settings of the workers' execution on top of what is drawn.
            scheduling: The same of their scheduling.
            deadlines_given: Whether some jobs have a deadline.
            environment: More environment for the n-th worker process: failpoints.
            tolerates: Which exit codes of workers are the fault's doing.
        """
        self.random = Random(seed)
        self.seed = seed
        self.dsn, self._client_dsn = dsn, client_dsn or dsn
        self._folder = folder
        self._seconds, self._workers, self._clients = seconds, workers, clients
        self._share_of_limited = _SHARE_OF_LIMITED if deadlines_given else 0.0
        settings = draw_settings(Random(f"{seed} settings"), execution or {}, scheduling or {})
        self.lease_seconds = float(settings["execution"]["lease_duration"])
        self._rules = rules_of(settings, is_weathered=worker_dsn is not None)
        self._recorder = Recorder(folder, "faults")
        self.observer = Observer(dsn, _SCHEMA)
        self.crew = Crew(
            processes,
            self._recorder,
            dsn=worker_dsn or dsn,
            folder=folder,
            settings=settings,
            environment=environment,
            tolerates=tolerates,
        )
        self.clients: list[Client] = []
        journal.install(dsn, _SCHEMA)
        deadlines.install(dsn, _SCHEMA)

    async def must_hold(
        self,
        fault: Callable[[Struck], Awaitable[None]] | None = None,
        *,
        first: Callable[[Struck], Awaitable[None]] | None = None,
    ) -> History:
        """Run it with a fault, which goes on until the clients have done; check all invariants.

        Args:
            fault: Is cancelled when the clients have done, or ends before; then puts right what must be.
            first: Is done before, under load too, but to its end, however long that takes.

        Raises:
            AssertionError: With all that is broken, the seed, and where the lines are.
        """
        spoil(self.observer, self._recorder)
        with Pulse(lambda: self.dsn, self._folder):
            await self._run(first, fault)
        left = await self.observer.left_over(self.lease_seconds)
        history = collect(self.dsn, self._folder, self._rules, sessions=left)
        self._assert_holds(history)
        return history

    def note(self, fault: Fault) -> None:
        """Write down something that is done."""
        self._recorder.write(fault)

    async def until_acknowledged(self, more: int) -> None:
        """Wait until so many more jobs are known to be stored."""
        wanted = more + sum(client.acknowledged for client in self.clients)
        await self.until(
            lambda: sum(client.acknowledged for client in self.clients) >= wanted, f"{more} more jobs aren't stored"
        )

    async def until_unanswered(self, more: int) -> None:
        """Wait until so many more calls have had no answer."""
        wanted = more + sum(client.unanswered for client in self.clients)
        await self.until(
            lambda: sum(client.unanswered for client in self.clients) >= wanted, f"{more} more calls aren't unanswered"
        )

    async def until(self, condition: Callable[[], bool], complaint: str, *, within_seconds: float = 120.0) -> None:
        """Wait until something is so, while the load goes on.

        Raises:
            AssertionError: It wasn't in time; with the complaint, and what the workers have said.
        """
        try:
            async with asyncio.timeout(within_seconds):
                while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            said = "\n\n".join(worker.output[-4000:] for worker in self.crew.workers)
            message = f"{complaint}, within {within_seconds} s; the workers have said:\n{said}"
            raise AssertionError(message) from None

    # --- its parts ---

    async def _run(
        self,
        first: Callable[[Struck], Awaitable[None]] | None,
        fault: Callable[[Struck], Awaitable[None]] | None,
    ) -> None:
        await self.crew.start(self._workers)
        keeping = asyncio.create_task(self.crew.keep())
        try:
            app = App(self._client_dsn, execution={"max_connections": 4})
            tasks = define(app, None)
            async with app:
                self.clients = [self._client(number, app, tasks) for number in range(self._clients)]
                await self._strike(first, fault)
                if self._rules.is_weathered:
                    self._recorder.write(Calmed())
                await rest(self.observer, self.clients[0])
                if self._share_of_limited:
                    await self._exceed_deadlines()
                await asyncio.gather(*(client.settle() for client in self.clients))
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await self.crew.stop()

    async def _exceed_deadlines(self) -> None:
        """Let jobs fail by their deadline in the ways that none has yet, now that nothing is done to anybody."""
        for seconds in _SURE_DEADLINE_SECONDS:
            missing = await asyncio.to_thread(self._missing_ways)
            if not missing:
                return
            for way in missing:
                acts, deadline = [deadlines.WAYS[way]], timedelta(seconds=seconds)
                await self.clients[0].start(1, acts=acts, threaded=False, deadline=deadline)
            await rest(self.observer, self.clients[0])

    def _missing_ways(self) -> list[str]:
        history = collect(self.dsn, self._folder, self._rules)
        return sorted(deadlines.WAYS.keys() - deadlines.ways_to_fail(history, deadlines.read(self.dsn)))

    def _client(self, number: int, app: App, tasks: Tasks) -> Client:
        name = f"client{number}"
        recorder, random = Recorder(self._folder, name), Random(f"{self.seed} {name}")
        return Client(name, app, tasks, recorder, random, share_of_limited=self._share_of_limited)

    async def _strike(
        self,
        first: Callable[[Struck], Awaitable[None]] | None,
        fault: Callable[[Struck], Awaitable[None]] | None,
    ) -> None:
        """Let the clients ask while all that is done: what comes first, and the fault for as long as is asked for."""
        begun = asyncio.Event()

        async def strike(struck: Struck) -> None:
            try:
                if first is not None:
                    await first(struck)
            finally:
                begun.set()
            if fault is not None:
                await fault(struck)

        await under(self, strike, self._load(begun))

    async def _load(self, begun: asyncio.Event) -> None:
        """Let the clients ask, each at its pace."""
        over = asyncio.Event()

        async def run(client: Client) -> None:
            pace = Random(f"{self.seed} pace of {client.name}")
            while not over.is_set():
                await client.act()
                await asyncio.sleep(pace.expovariate(1 / _PACE_SECONDS))

        async with asyncio.TaskGroup() as group:
            for client in self.clients:
                group.create_task(run(client))
            await begun.wait()
            await asyncio.sleep(self._seconds)
            # On a machine that is slow just then they haven't come to everything by now.
            gives_up_at = time.monotonic() + _LONGER_SECONDS
            while time.monotonic() < gives_up_at and not await asyncio.to_thread(self._has_used_all):  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_SECONDS)
            over.set()

    def _has_used_all(self) -> bool:
        """Whether the clients have been granted whatever the checks ask for."""
        try:
            return not [*self._unasked(deadlines.read(self.dsn))]
        except psycopg.Error:  # a fault
            return False

    def _unasked(self, given: Deadlines) -> Iterator[str]:
        """Find what the clients have never been granted: checks that nothing would notice."""
        for verb in sorted(set.intersection(*(client.owed for client in self.clients))):
            yield f"no {verb} was granted to any client"
        acknowledged = sum(client.acknowledged for client in self.clients)
        if acknowledged < _LEAST_ACKNOWLEDGED:
            yield f"only {acknowledged} jobs were acknowledged"
        if self._share_of_limited and not given.at:
            yield "no job had a deadline"

    def _unfailed(self, history: History, given: Deadlines) -> Iterator[str]:
        """Find in which way no job has failed by its deadline."""
        if self._share_of_limited:
            for way in sorted(deadlines.WAYS.keys() - deadlines.ways_to_fail(history, given)):
                yield f"no job failed by its deadline while it {way}"

    def _unfinished(self, history: History) -> Iterator[str]:
        for row in history.rows:
            if row.live and row.job not in self.observer.spoilt:
                yield f"job {row.job} is still {row.state} ({row.place}, due {row.due}) when nothing comes on any more"

    def _assert_holds(self, history: History) -> None:
        given = deadlines.read(self.dsn)
        wrong = [
            *self.crew.complaints,
            *self._unasked(given),
            *self._unfailed(history, given),
            *self._unfinished(history),
            *violations(history),
            *deadlines.deadlines_hold(history, given, within_seconds=2 * self.lease_seconds + _SLACK_SECONDS),
        ]
        if wrong:
            message = "\n".join([f"seed {self.seed}, lines in {self._folder}: {len(wrong)} violations", *wrong[:50]])
            raise AssertionError(message)


def draw_settings(
    random: Random, execution: Mapping[str, Any], scheduling: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Draw the settings of a run: short leases, quick retries."""
    return {
        "scheduling": {
            "polling_delay": 0.1,
            "scheduler_retry_count": 2,
            "scheduler_retry_delays": [0, 0.05],
            **(scheduling or {}),
        },
        "execution": {
            "lease_duration": random.choice([2, 3]),
            "max_retry_count": 1,
            "max_lapses": random.choice([3, 100]),
            "shutdown_grace": random.choice([0, 0.3]),
            "cancel_grace": 2,
            "concurrency": random.choice([4, 16]),
            "threads": 4,
            "max_connections": 4,
            **execution,
        },
    }


def rules_of(settings: Mapping[str, Mapping[str, Any]], *, is_weathered: bool = False) -> Rules:
    """Return what the checkers need to know of settings."""
    rules = Rules(
        scheduler_retry_count=settings["scheduling"]["scheduler_retry_count"],
        max_retry_count=settings["execution"]["max_retry_count"],
        max_lapses=settings["execution"]["max_lapses"],
        is_weathered=is_weathered,
    )
    return rules.timed(settings["scheduling"]["polling_delay"])
