"""One run: workers, clients, a fault that is done to them; then rest, and all invariants checked.

await Scenario(dsn, folder, processes, seed=417).must_hold(kill_workers)
"""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import TYPE_CHECKING, Any

from perdure import App
from tests.support.history import History, Pulse, Recorder, Rules, collect, journal, violations
from tests.support.history.lines import Calmed
from tests.support.scenario.clients import Client
from tests.support.scenario.crew import Crew
from tests.support.scenario.observer import Observer
from tests.support.scenario.phases import rest, spoil, under
from tests.support.scenario.tasks import define

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from tests.support.history.lines import Fault
    from tests.support.processes import Processes
    from tests.support.scenario.phases import Struck
    from tests.support.scenario.tasks import Tasks

__all__ = ["Scenario", "draw_settings", "rules_of"]

_SCHEMA = "background_tasks"
_PACE_SECONDS = 0.04


class Scenario:
    """Workers and clients on one database, all drawn from a seed.

    Attributes:
        random: What the fault draws from.
        crew: The workers.
        observer: The database, looked at directly.
        lease_seconds: How long the workers' leases last.
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
            environment: More environment for the n-th worker process: failpoints.
            tolerates: Which exit codes of workers are the fault's doing.
        """
        self.random = Random(seed)
        self.seed = seed
        self._dsn, self._client_dsn = dsn, client_dsn or dsn
        self._folder = folder
        self._seconds, self._workers, self._clients = seconds, workers, clients
        settings = draw_settings(Random(f"{seed} settings"), execution or {})
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
        journal.install(dsn, _SCHEMA)

    async def must_hold(self, fault: Callable[[Struck], Awaitable[None]] | None = None) -> History:
        """Run it with a fault, which goes on until the clients have done; check all invariants.

        Args:
            fault: Is cancelled when the clients have done, or ends before; then puts right what must be.

        Raises:
            AssertionError: With all that is broken, the seed, and where the lines are.
        """
        spoil(self.observer, self._recorder)
        with Pulse(lambda: self._dsn, self._folder):
            await self._run(fault)
        left = await self.observer.left_over(self.lease_seconds)
        history = collect(self._dsn, self._folder, self._rules, sessions=left)
        self._assert_holds(history)
        return history

    def note(self, fault: Fault) -> None:
        """Write down something that is done."""
        self._recorder.write(fault)

    # --- its parts ---

    async def _run(self, fault: Callable[[Struck], Awaitable[None]] | None) -> None:
        await self.crew.start(self._workers)
        keeping = asyncio.create_task(self.crew.keep())
        try:
            app = App(self._client_dsn, execution={"max_connections": 4})
            tasks = define(app, None)
            async with app:
                clients = [self._client(number, app, tasks) for number in range(self._clients)]
                await under(self, fault, self._load(clients))
                if self._rules.is_weathered:
                    self._recorder.write(Calmed())
                await rest(self.observer, clients[0])
                await asyncio.gather(*(client.settle() for client in clients))
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await self.crew.stop()

    def _client(self, number: int, app: App, tasks: Tasks) -> Client:
        name = f"client{number}"
        return Client(name, app, tasks, Recorder(self._folder, name), Random(f"{self.seed} {name}"))

    async def _load(self, clients: list[Client]) -> None:
        """Let the clients ask, each at its pace."""
        ends_at = time.monotonic() + self._seconds

        async def run(client: Client) -> None:
            pace = Random(f"{self.seed} pace of {client.name}")
            while time.monotonic() < ends_at:
                await client.act()
                await asyncio.sleep(pace.expovariate(1 / _PACE_SECONDS))

        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(run(client))

    def _assert_holds(self, history: History) -> None:
        wrong = [*self.crew.complaints, *violations(history)]
        if wrong:
            message = "\n".join([f"seed {self.seed}, lines in {self._folder}: {len(wrong)} violations", *wrong[:50]])
            raise AssertionError(message)


def draw_settings(random: Random, execution: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Draw the settings of a run: short leases, quick retries."""
    return {
        "scheduling": {
            "polling_delay": 0.1,
            "scheduler_retry_count": 2,
            "scheduler_retry_delays": [0, 0.05],
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
