"""The tasks of a scenario: interpreters of plans, one that awaits and one that runs in a thread.

Each writes down when its body begins and ends, and what it does outside of transactions.
"""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from perdure import App, Cancelled, Context, Failed, LeaseLost, Suspended, Task, WokenBy
from perdure.blocking import Context as BlockingContext
from perdure.steps import Asleep
from tests.support.history.lines import Began, Called, Effect, Ended, Stepped
from tests.support.scenario.plans import Note, Place, Plan, Trouble

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.support.history import Recorder

__all__ = ["Tasks", "define"]

Outcome = int | Failed[Trouble] | Cancelled[Trouble] | Suspended
Tasks = tuple[Task[Plan, Place, int, Trouble], Task[Plan, Place, int, Trouble]]
AnyContext = Context[Plan, Place] | BlockingContext[Plan, Place]
_MOMENT_SECONDS = 0.05
_NAP = timedelta(seconds=0.05)
_ROW = "insert into history.effects (job, number, attempt, event) values (%s, %s, %s, %s)"


class Refusal(Exception):
    """What an act raises that is to raise."""


def define(app: App, recorder: Recorder | None) -> Tasks:
    """Define the tasks: `plan`, and `plan.threaded`.

    Args:
        app: Where.
        recorder: Takes what the handlers do; clients, which run none, need none.
    """

    @app.task("plan", events=Note)
    async def plan(ctx: Context[Plan, Place]) -> int | Failed[Trouble] | Cancelled[Trouble] | Suspended:
        assert recorder is not None
        return await _Awaiting(ctx, recorder).run()

    @app.task("plan.threaded", events=Note)
    def threaded(ctx: BlockingContext[Plan, Place]) -> int | Failed[Trouble] | Cancelled[Trouble] | Suspended:
        assert recorder is not None
        return _Threaded(ctx, recorder).run()

    return plan, threaded


class _Noted:
    """Notes the beginning and the end of a handler's body."""

    def __init__(self, ctx: AnyContext, recorder: Recorder) -> None:
        self._ctx = ctx
        self._recorder = recorder
        self._how, self._why = "returns", ""

    def __enter__(self) -> Self:
        self._recorder.write(Began(self._ctx.id, self._ctx.attempt, os.getpid()))
        return self

    def outcome(self, outcome: Outcome) -> Outcome:
        kinds: Mapping[type, str] = {Failed: "fails", Cancelled: "cancels", Suspended: "suspends"}
        self._how = kinds.get(type(outcome), "returns")
        return outcome

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        match error:
            case None:
                pass
            case asyncio.CancelledError():
                self._how = "stopped"
            case LeaseLost():
                self._how = "refused"
            case Asleep():
                self._how = "suspends"
            case _:
                self._how, self._why = "raises", repr(error)
        self._recorder.write(Ended(self._ctx.id, self._ctx.attempt, self._how, self._why))


class _Acts:
    """What needs neither waiting nor a thread."""

    def __init__(self, ctx: AnyContext, recorder: Recorder) -> None:
        self._recorder = recorder
        self.id, self.attempt, self.woken_by = ctx.id, ctx.attempt, ctx.woken_by
        self.place, self.acts = ctx.execution_metadata, ctx.metadata.acts
        self.place.writer = ctx.attempt
        self._moment_seconds = (ctx.id % 7) * _MOMENT_SECONDS

    def simple(self, act: str) -> Outcome | None:
        """Do an act that only changes the checkpoint, or ends the attempt."""
        place = self.place
        match act:
            case "doom":
                raise Refusal(act)
            case "cancel":
                return Cancelled(Trouble(self.attempt))
            case "fail":
                place.at += 1
                return Failed(Trouble(self.attempt))
            case "pause" if place.asked == place.at and self.woken_by is WokenBy.PROCEED:
                place.at += 1
            case "pause":
                place.asked = place.at
                return Suspended()
            case "linger":
                return Suspended()
            case "nap" if place.asked == place.at:
                place.at += 1
            case "nap":
                place.asked = place.at
                return Suspended(until=_NAP)
            case _:
                raise ValueError(act)
        return None

    def have_effect(self) -> None:
        """Write the line that is an effect; the checkpoint follows."""
        self._recorder.write(Effect(self.id, self.attempt, self.place.effects))
        self.place.effects += 1
        self.place.at += 1

    def row(self, event: str | None) -> tuple[int, int, int, str | None]:
        """Count a row, and return it: it is to be written in the same transaction."""
        place = self.place
        row = (self.id, place.rows, self.attempt, event)
        place.rows += 1
        place.at += 1
        if event is not None:
            place.seen.append(event)
        return row


class _Awaiting(_Acts):
    """The interpreter that awaits."""

    def __init__(self, ctx: Context[Plan, Place], recorder: Recorder) -> None:
        super().__init__(ctx, recorder)
        self._ctx = ctx
        self._others: Mapping[str, Callable[[], Awaitable[Suspended | None]]] = {
            "row": self._row,
            "effect": self._effect,
            "step": self._step,
            "work": self._work,
            "wait": self._wait,
            "sleep": self._sleep,
            "raise": self._raise,
            "endure": self._endure,
        }

    async def run(self) -> Outcome:
        with _Noted(self._ctx, self._recorder) as noted:
            while self.place.at < len(self.acts):
                act = self.acts[self.place.at]
                other = self._others.get(act)
                outcome = self.simple(act) if other is None else await other()
                if isinstance(outcome, Suspended):
                    await asyncio.sleep(self._moment_seconds)  # what comes meanwhile must let it go on
                if outcome is not None:
                    return noted.outcome(outcome)
            return self.attempt

    async def _row(self, event: str | None = None) -> None:
        async with self._ctx.transaction() as connection:
            await connection.execute(_ROW, self.row(event))

    async def _effect(self) -> None:
        self.have_effect()
        await self._ctx.persist()

    async def _step(self) -> None:
        key = f"step {self.place.at}"

        async def call() -> int:
            self._recorder.write(Called(self.id, self.attempt, key))
            return self.attempt

        by = await self._ctx.step(key, call)
        self._recorder.write(Stepped(self.id, self.attempt, key, by))
        self.place.at += 1

    async def _work(self) -> None:
        await asyncio.sleep(self._moment_seconds)
        self.place.at += 1

    async def _wait(self) -> Suspended | None:
        event = await self._ctx.next_event()
        if event is None:
            return Suspended()
        await self._row(event.key)
        return None

    async def _sleep(self) -> None:
        await self._ctx.sleep(_NAP, key=f"sleep {self.place.at}")
        self.place.at += 1

    async def _raise(self) -> None:
        self.place.at += 1
        await self._ctx.persist()
        raise Refusal

    async def _endure(self) -> None:
        await asyncio.Event().wait()


class _Threaded(_Acts):
    """The interpreter that runs in a thread."""

    def __init__(self, ctx: BlockingContext[Plan, Place], recorder: Recorder) -> None:
        super().__init__(ctx, recorder)
        self._ctx = ctx
        self._others: Mapping[str, Callable[[], Suspended | None]] = {
            "row": self._row,
            "effect": self._effect,
            "wait": self._wait,
            "raise": self._raise,
        }

    def run(self) -> Outcome:
        with _Noted(self._ctx, self._recorder) as noted:
            while self.place.at < len(self.acts):
                act = self.acts[self.place.at]
                other = self._others.get(act)
                outcome = self.simple(act) if other is None else other()
                if isinstance(outcome, Suspended):
                    threading.Event().wait(self._moment_seconds)  # libfaketime breaks `time.sleep`
                if outcome is not None:
                    return noted.outcome(outcome)
            return self.attempt

    def _row(self, event: str | None = None) -> None:
        with self._ctx.transaction() as connection:
            connection.execute(_ROW, self.row(event))

    def _effect(self) -> None:
        self.have_effect()
        self._ctx.persist()

    def _wait(self) -> Suspended | None:
        event: Any = self._ctx.next_event()
        if event is None:
            return Suspended()
        self._row(event.key)
        return None

    def _raise(self) -> None:
        self.place.at += 1
        self._ctx.persist()
        raise Refusal
