"""Runs the soak: a server of its own, workers, clients, rounds of load and rest, samples."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from random import Random
from typing import IO, TYPE_CHECKING, Any

import msgspec
import psutil
import psycopg

from perdure import App
from tests.soak.samples import Sample, judge
from tests.support.history import Pulse, Recorder, collect, journal, violations
from tests.support.scenario import faults
from tests.support.scenario.clients import Client
from tests.support.scenario.crew import Crew
from tests.support.scenario.observer import Observer
from tests.support.scenario.phases import rest, spoil, under
from tests.support.scenario.scenario import draw_settings, rules_of
from tests.support.scenario.tasks import define

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.soak.samples import Verdict
    from tests.support.history import History
    from tests.support.history.lines import Fault
    from tests.support.processes import Processes

__all__ = ["InvariantBroken", "Round", "Soak"]

_SCHEMA = "background_tasks"
_WORKERS, _CLIENTS = 3, 4
_ROUND_SECONDS = 30.0
_SAMPLE_SECONDS = 5.0
_PAUSE_SECONDS = 6.0
_BACKLOG = 2000
_BACKLOG_LOOK_SECONDS = 0.5
_MOST_AT_ONCE = 100
_SHARE_OF_SHORT = 0.92
# Each client's, some three jobs an act: at an even rate, what grows doesn't grow because there is more to do.
_ACT_SECONDS = 1 / 50
_CATCHES_UP_SECONDS = 1.0


class InvariantBroken(Exception):
    """What is wrong with a round; its lines and its log are still there."""


class Round(msgspec.Struct, frozen=True, tag="round", tag_field="what"):
    """A round that has held.

    Attributes:
        number: From 1.
        at: When it ended, in seconds since the soak's begin.
        jobs: How many jobs it had.
        writes: How many writes to jobs were checked.
        faults: How often which fault was done.
        seconds: How long load, rest and check took.
        live: Bytes of each table of what lives, and of each of its indexes, when all had ended.
    """

    number: int
    at: float
    jobs: int
    writes: int
    faults: dict[str, int]
    seconds: tuple[float, float, float]
    live: dict[str, int]


class Soak:
    """One soak.

    Attributes:
        crew: The workers.
        observer: The database, looked at directly.
        random: What the faults draw from.
        lease_seconds: How long the workers' leases last.
    """

    def __init__(
        self,
        dsn: str,
        folder: Path,
        processes: Processes,
        *,
        seed: int,
        output: IO[bytes],
        on_line: Callable[[str], None],
    ) -> None:
        """Prepare it on a migrated database.

        Args:
            dsn: The database.
            folder: An empty one, for lines.
            processes: Starts the workers.
            seed: Decides what is drawn.
            output: Takes samples, rounds and the verdict, as JSON lines.
            on_line: Told of each round, in words.
        """
        self._dsn, self._folder, self._output, self._seed = dsn, folder, output, seed
        self.random = Random(seed)
        execution = {"lease_duration": 3, "concurrency": 32, "max_lapses": 100}
        settings = draw_settings(Random(f"{seed} settings"), execution)
        self._rules = rules_of(settings)
        self.lease_seconds = 3.0
        self._on_line = on_line
        self._recorder = Recorder(folder, "faults")
        self.observer = Observer(dsn, _SCHEMA)
        self.crew = Crew(processes, self._recorder, dsn=dsn, folder=folder, settings=settings)
        self._began_at = time.monotonic()
        self._samples: list[Sample] = []
        self._ended = 0
        self._highest_id = 0
        self._kept = 0.0
        self._carried: list[Fault] = []
        self._go = asyncio.Event()
        journal.install(dsn, _SCHEMA)

    def note(self, fault: Fault) -> None:
        """Write down something that is done."""
        self._recorder.write(fault)

    async def run(self, seconds: float, stop: asyncio.Event) -> Verdict:
        """Run rounds for so long, or until it is to stop; return whether all has stayed flat.

        Raises:
            InvariantBroken: In some round.
        """
        await self.crew.start(_WORKERS)
        self.crew.spared = {self.crew.workers[0].pid}
        pulse = Pulse(lambda: self._dsn, self._folder)
        pulse.start()
        background = [asyncio.create_task(work()) for work in (self.crew.keep, self._watch_backlog, self._sample)]
        try:
            app = App(self._dsn, execution={"max_connections": 8})
            tasks = define(app, None)
            async with app:
                clients = [self._client(f"client{number}", app, tasks) for number in range(_CLIENTS)]
                number = 0
                while time.monotonic() - self._began_at < seconds and not stop.is_set():
                    number += 1
                    await self._round(number, clients)
                    for task in background:
                        if task.done():
                            task.result()
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await asyncio.to_thread(pulse.stop)
        await self.crew.stop()
        left = await self.observer.left_over(self.lease_seconds)
        wrong = [*self.crew.complaints, *(f"left of the workers, that have all ended: {session}" for session in left)]
        if wrong:
            raise InvariantBroken("\n".join(wrong))
        verdict = judge(self._samples)
        self._tell(verdict)
        return verdict

    def _client(self, name: str, app: App, tasks: Any) -> Client:
        random = Random(f"{self._seed} {name}")
        recorder = Recorder(self._folder, name)
        return Client(name, app, tasks, recorder, random, most_at_once=_MOST_AT_ONCE, share_of_short=_SHARE_OF_SHORT)

    # --- a round ---

    async def _round(self, number: int, clients: list[Client]) -> None:
        began_at = time.monotonic()
        spoil(self.observer, self._recorder)
        fault = functools.partial(faults.do_anything, pause_seconds=_PAUSE_SECONDS)
        await under(self, fault, self._load(clients))
        loaded_at = time.monotonic()
        await rest(self.observer, clients[0])
        await asyncio.gather(*(client.settle() for client in clients))
        rested_at = time.monotonic()
        history = await asyncio.to_thread(self._check, number)
        self._ended += sum(not row.live for row in history.rows)
        kinds = [fault.kind.split()[0] for fault in history.faults if fault not in self._carried]
        now = time.monotonic()
        seconds = (loaded_at - began_at, rested_at - loaded_at, now - rested_at)
        count = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
        live = self.observer.live_relations()
        self._tell(Round(number, now - self._began_at, len(history.rows), len(history.images), count, seconds, live))
        self._on_line(
            f"round {number}: {len(history.rows)} jobs, {len(history.images)} writes checked; load, rest, check "
            f"{', '.join(f'{part:.0f} s' for part in seconds)}; {self._ended} jobs in all; {count}"
        )
        await asyncio.to_thread(self._clear, history)

    async def _load(self, clients: list[Client]) -> None:
        ends_at = time.monotonic() + _ROUND_SECONDS

        async def run(client: Client) -> None:
            next_at = time.monotonic()
            while time.monotonic() < ends_at:
                await self._go.wait()
                await client.act()
                # What was missed in an outage isn't made up for.
                next_at = max(next_at + _ACT_SECONDS, time.monotonic() - _CATCHES_UP_SECONDS)
                await asyncio.sleep(next_at - time.monotonic())

        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(run(client))

    def _check(self, number: int) -> History:
        history = collect(self._dsn, self._folder, self._rules, schema_name=_SCHEMA, after=self._highest_id)
        wrong = [*self.crew.complaints, *violations(history)]
        if wrong:
            message = "\n".join([f"round {number}, lines in {self._folder}, database {self._dsn}:", *wrong[:50]])
            raise InvariantBroken(message)
        return history

    def _clear(self, history: History) -> None:
        """Forget the round: nothing of it can be heard of any more, for all its jobs have ended."""
        self._highest_id = max((row.job for row in history.rows), default=self._highest_id)
        running = {worker.pid for worker in self.crew.workers}
        self._carried = [fault for fault in history.faults if fault.pid in running]
        self.observer.remove_spoilt()
        sizes = self.observer.sizes()
        if sizes is not None and self._ended:
            self._kept = sizes.kept / self._ended
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            journal.clear(connection)
        for path in self._folder.glob("*.jsonl"):
            if path.name.startswith("handlers-") and int(path.name.split("-")[1]) not in running:
                path.unlink()
            else:
                # It is appended to, so its writer goes on at its new end.
                os.truncate(path, 0)
        for fault in self._carried:
            self._recorder.write(fault)

    # --- beside the rounds ---

    async def _watch_backlog(self) -> None:
        """Let the clients wait while there is more to do than workers soon will."""
        while True:
            live = await asyncio.to_thread(self.observer.count_live)
            if live is None or live < _BACKLOG:
                self._go.set()
            else:
                self._go.clear()
            await asyncio.sleep(_BACKLOG_LOOK_SECONDS)

    async def _sample(self) -> None:
        spared = psutil.Process(next(iter(self.crew.spared)))
        own = psutil.Process()
        while True:
            sizes = await asyncio.to_thread(self.observer.sizes)
            if sizes is not None:
                sample = Sample(
                    at=time.monotonic() - self._began_at,
                    ended=self._ended,
                    memory=spared.memory_info().rss,
                    descriptors=spared.num_fds(),
                    threads=spared.num_threads(),
                    connections=sizes.connections,
                    live=sizes.live,
                    kept=self._kept,
                    checker=own.memory_info().rss,
                )
                self._samples.append(sample)
                self._tell(sample)
            await asyncio.sleep(_SAMPLE_SECONDS)

    def _tell(self, line: Sample | Round | Verdict) -> None:
        self._output.write(msgspec.json.encode(line) + b"\n")
        self._output.flush()
