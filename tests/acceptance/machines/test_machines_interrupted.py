"""State machines that are stopped, rolled back and killed: they go on from the state that is stored."""
# ruff: noqa: ARG002 - a handler has its parameters, whether it needs them or not

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from perdure import App, JobState, MachineState, Suspended, on
from tests.support.jobs import is_in
from tests.support.machines import AwaitingPayment, Ctx, Fulfilment, Order, Paid, Placed, Receipt

if TYPE_CHECKING:
    from tests.support.processes import Processes


SCRIPT = str(Path(__file__).with_name("machine_app.py"))


async def test_a_stop_keeps_the_state_that_it_stopped_in(app: App) -> None:
    handling = asyncio.Event()

    @app.task("orders.fulfil")
    class Fulfil(Fulfilment):
        @on(Placed)
        async def place(self, state: Placed, ctx: Ctx) -> AwaitingPayment:
            return AwaitingPayment("x")

        @on(AwaitingPayment)
        async def payment(self, state: AwaitingPayment, ctx: Ctx) -> Paid:
            if ctx.attempt == 1:
                state.invoice = "half written"
                handling.set()
                await asyncio.Event().wait()
            return Paid(state.invoice)

    job = await Fulfil.start(Order(1))
    async with app.worker():
        await asyncio.wait_for(handling.wait(), 10)
    await job.refresh()
    assert (job.state, job.execution_metadata) == (JobState.PENDING, MachineState(AwaitingPayment("half written")))
    async with app.worker():
        assert await job.result(timeout=10) == Receipt(1)
    assert (await job.refresh()).execution_metadata == MachineState(Paid("half written"))


async def test_a_transaction_that_is_rolled_back_puts_the_handlers_own_state_back(app: App) -> None:
    @app.task("orders.fulfil")
    class Fulfil(Fulfilment):
        initial = AwaitingPayment("1")

        @on(AwaitingPayment)
        async def payment(self, state: AwaitingPayment, ctx: Ctx) -> Suspended:
            with contextlib.suppress(ValueError):
                async with ctx.transaction():
                    state.invoice += " rolled back"
                    raise ValueError
            assert ctx.execution_metadata.state is state
            async with ctx.transaction():
                state.invoice += " committed"
            state.invoice += " suspended"
            return Suspended()

    async with app.worker():
        job = await Fulfil.start(Order(1))
        await is_in(job, JobState.SUSPENDED)
    assert job.execution_metadata == MachineState(AwaitingPayment("1 committed suspended"))


async def test_killed_between_transitions_it_goes_on_from_the_state_it_was_in(
    app: App, migrated_database: str, processes: Processes
) -> None:
    from tests.acceptance.machines.machine_app import Packed, Parcels, Shipped  # noqa: PLC0415

    app.task("parcels")(type("Parcels2", (Parcels,), {}))
    job = await app.tasks["parcels"].start(None)
    assert job.execution_metadata == MachineState(Packed(1))
    first = processes.python(SCRIPT, env={"TEST_DSN": migrated_database})
    await first.line(r"attempt 1 handles Packed\(parcels=1\)")
    await first.line(r"attempt 1 handles Shipped\(parcels=2\)")
    assert (await job.refresh()).execution_metadata == MachineState(Shipped(2))
    first.kill()
    second = processes.python(SCRIPT, env={"TEST_DSN": migrated_database})
    await second.line(r"attempt 2 handles Shipped\(parcels=2\)")
    assert await job.result(timeout=15) == 3
    assert "Packed" not in second.output
    second.terminate()
    assert await second.end() == 0
