"""When a sweep scans: seldom where that costs much, whether it fails or not; soon after an answer that was lost."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from perdure.store.leases import Sweep
from perdure.store.sql import names_of
from perdure.worker import rescuer
from perdure.worker.rescuer import Rescuer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NOTHING = Sweep([], [], None, suspect_due=False, deadline_due=False, next_deadline_seconds=None)


class Worker:
    """Stands for the worker, its desk and the database; notes which sweeps scan."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names = names_of("background_tasks")
        self.worker_id = uuid.uuid4()
        self.queues = None
        self.has_room_for_suspect = True
        self.claimer = SimpleNamespace(open=True)
        self.desk = self
        self.now_seconds = 1000.0
        self.waits_seconds = self.takes_seconds = 0.0
        self.answer: Sweep | Exception = NOTHING
        self.begins = True
        self.scanned: list[bool] = []
        monkeypatch.setattr(rescuer, "time", SimpleNamespace(monotonic=lambda: self.now_seconds))
        monkeypatch.setattr(rescuer.calls, "run", self._answer)
        self._rescuer = Rescuer(cast("Any", self))

    async def run(self, work: Callable[[Any], Awaitable[Sweep]], *, what: str) -> Sweep:
        assert what == "sweep"
        self.scanned.append(False)
        return await work(None)

    async def look(self, work: Callable[[Any], Awaitable[Sweep]], *, what: str) -> tuple[Sweep, float]:
        assert what == "sweep"
        self.scanned.append(True)
        self.now_seconds += self.waits_seconds  # for another look
        if not self.begins:
            assert isinstance(self.answer, Exception)
            raise self.answer
        return await work(None), self.takes_seconds

    def keep_slot_free(self, *, for_suspect: bool) -> None:
        assert not for_suspect

    async def sweep(self, *, after_seconds: float = 0.0) -> bool:
        """Sweep; return whether it has scanned."""
        self.now_seconds += after_seconds
        if isinstance(self.answer, Exception):
            with pytest.raises(type(self.answer)):
                await self._rescuer.run_once()
        else:
            await self._rescuer.run_once()
        return self.scanned[-1]

    async def _answer(self, _connection: object, call: object) -> Sweep:
        assert call
        self.now_seconds += self.takes_seconds
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("answer", [NOTHING, ConnectionError()])
async def test_a_scan_that_took_long_isnt_made_again_soon_even_if_it_has_failed(
    monkeypatch: pytest.MonkeyPatch, answer: Sweep | Exception
) -> None:
    worker = Worker(monkeypatch)
    worker.takes_seconds, worker.answer = 0.25, answer
    assert await worker.sweep()
    worker.takes_seconds, worker.answer = 0.0, NOTHING
    assert not await worker.sweep(after_seconds=24.0)
    assert not await worker.sweep(after_seconds=0.5)
    assert await worker.sweep(after_seconds=0.6)


async def test_what_it_has_waited_for_another_look_isnt_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch)
    worker.waits_seconds, worker.takes_seconds = 0.5, 0.01
    assert await worker.sweep()
    assert await worker.sweep(after_seconds=1.1)


@pytest.mark.parametrize("begins", [True, False])
async def test_what_one_that_fails_has_waited_isnt_its_own_either(
    monkeypatch: pytest.MonkeyPatch, *, begins: bool
) -> None:
    # It once was: a connection that broke behind another look put the search for lost jobs off by a minute.
    worker = Worker(monkeypatch)
    worker.waits_seconds, worker.answer, worker.begins = 30.0, ConnectionError(), begins
    assert await worker.sweep()
    worker.answer, worker.begins = NOTHING, True
    assert await worker.sweep(after_seconds=0.1)


async def test_after_an_answer_that_was_lost_it_scans_for_the_jobs_of_leases_that_it_may_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(monkeypatch)
    worker.takes_seconds = 1.0
    assert await worker.sweep()
    worker.takes_seconds, worker.answer = 0.005, ConnectionError()
    assert not await worker.sweep(after_seconds=1.0)
    worker.answer = NOTHING
    assert await worker.sweep(after_seconds=1.0)
