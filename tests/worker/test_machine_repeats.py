"""A run of a machine that comes to an equal state twice raises, unless that is meant."""
# ruff: noqa: ARG002 - a handler has its parameters, whether it needs them or not

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Never, cast

import pytest

from perdure import App, Completed, Context, Job, JobFailed, MachineState, Raised, StateMachine, Suspended, on


@dataclass
class Placed: ...


@dataclass
class Paid:
    by: str


@dataclass(eq=False)
class Opaque:
    """Compares by identity."""

    number: int = 0


@dataclass
class Noted:
    """Compares without its notes."""

    number: int = 0
    notes: str = field(default="", compare=False)


@dataclass(frozen=True)
class Frozen:
    """As `Noted`, with a hash."""

    number: int = 0
    notes: str = field(default="", compare=False)


Round = Placed | Opaque | Noted | Frozen
RoundCtx = Context[int, MachineState[Round]]


async def raised_by(job: Job[Any, Any, Any, Any]) -> Raised:
    """Wait until the job has failed by a raise."""
    with pytest.raises(JobFailed):
        await job.result(timeout=10)
    await job.refresh()
    assert isinstance(job.error, Raised)
    return job.error


async def go_round(app: App, there: Any, back: Any, *, repeatable: bool = False) -> Job[Any, Any, Any, Any]:
    """Start a machine that goes from `there` to `back`, and back, and so on."""

    class Rounds(StateMachine[int, Round, int, Never]):
        initial = Placed()

        async def step(self, ctx: RoundCtx) -> Any:
            rounds = ctx.metadata
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps > rounds:
                return Completed(self.steps)
            return (there, back)[self.steps % 2](self.steps)

        @on(Placed)
        async def place(self, state: Placed, ctx: RoundCtx) -> Round | Completed[int]:
            return cast("Round", await self.step(ctx))

        @on(Opaque, repeatable=repeatable)
        async def opaque(self, state: Opaque, ctx: RoundCtx) -> Round | Completed[int]:
            return cast("Round", await self.step(ctx))

        @on(Noted, repeatable=repeatable)
        async def noted(self, state: Noted, ctx: RoundCtx) -> Round | Completed[int]:
            return cast("Round", await self.step(ctx))

        @on(Frozen, repeatable=repeatable)
        async def frozen(self, state: Frozen, ctx: RoundCtx) -> Round | Completed[int]:
            return cast("Round", await self.step(ctx))

    app.task("rounds")(Rounds)
    return await Rounds.start(10)


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(lambda _step: Placed(), id="equal by value"),
        pytest.param(lambda step: Frozen(0, f"step {step}"), id="equal by hash, with another payload"),
        pytest.param(lambda _step: Opaque(), id="compared by identity, with an equal payload"),
        pytest.param(lambda step: Noted(0, f"step {step}"), id="equal, with another payload"),
    ],
)
async def test_an_equal_state_twice_in_one_run_raises(app: App, state: Any) -> None:
    async with app.worker():
        job = await go_round(app, state, lambda step: Frozen(-step))
        error = await raised_by(job)
    assert error.type == "perdure.errors.StateRepeated"
    assert error.message.startswith(f"Rounds came to the state {type(state(0)).__name__}(")
    assert "twice in one run" in error.message
    assert "repeatable=True" in error.message


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(lambda step: Frozen(step), id="by hash"),  # noqa: PLW0108 - as its neighbours
        pytest.param(lambda step: Opaque(step), id="by payload"),  # noqa: PLW0108
        pytest.param(lambda step: Noted(step), id="by value"),  # noqa: PLW0108
    ],
)
async def test_states_of_other_values_are_other_states(app: App, state: Any) -> None:
    async with app.worker():
        job = await go_round(app, state, lambda step: Frozen(-step))
        assert await job.result(timeout=10) == 11


@pytest.mark.parametrize("state", [lambda _step: Frozen(), lambda _step: Opaque(), lambda _step: Noted()])
async def test_a_repeatable_state_may_come_again(app: App, state: Any) -> None:
    async with app.worker():
        job = await go_round(app, state, lambda _step: Frozen(7), repeatable=True)
        assert await job.result(timeout=10) == 11


async def test_a_state_that_its_handler_changes_is_compared_as_it_came(app: App) -> None:
    @app.task("pages")
    class Pages(StateMachine[None, Noted, int, Never]):
        initial = Noted()

        @on(Noted)
        async def page(self, state: Noted, ctx: Context[None, MachineState[Noted]]) -> Noted | Completed[int]:
            state.number += 1
            return Completed(state.number) if state.number == 5 else state

    async with app.worker():
        assert await (await Pages.start()).result(timeout=10) == 5


async def test_a_suspension_begins_a_new_run(app: App) -> None:
    @app.task("polling")
    class Polling(StateMachine[None, Placed | Paid, int, Never]):
        initial = Placed()

        @on(Placed)
        async def look(
            self, state: Placed, ctx: Context[None, MachineState[Placed | Paid]]
        ) -> Suspended | Completed[int]:
            return Suspended(until=timedelta(0)) if ctx.attempt < 4 else Completed(ctx.attempt)

        @on(Paid)
        async def paid(self, state: Paid, ctx: Context[None, MachineState[Placed | Paid]]) -> Placed:
            return Placed()

    async with app.worker():
        assert await (await Polling.start()).result(timeout=10) == 4


async def test_a_repeated_state_is_an_ordinary_raise_from_the_last_persisted_state(app: App) -> None:
    handled: list[object] = []

    @app.task("rounds", scheduler_retry_count=1)
    class Rounds(StateMachine[None, Placed | Paid, int, Never]):
        initial = Placed()

        @on(Placed)
        async def place(self, state: Placed, ctx: Context[None, MachineState[Placed | Paid]]) -> Paid:
            handled.append(state)
            return Paid("x")

        @on(Paid)
        async def paid(self, state: Paid, ctx: Context[None, MachineState[Placed | Paid]]) -> Placed | Completed[int]:
            handled.append(state)
            return Placed() if ctx.attempt == 1 else Completed(ctx.attempt)

    async with app.worker():
        job = await Rounds.start()
        assert await job.result(timeout=10) == 2
    assert handled == [Placed(), Paid("x"), Paid("x")]
    assert (await job.refresh()).execution_metadata == MachineState(Paid("x"))
