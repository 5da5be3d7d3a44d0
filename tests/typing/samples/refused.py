"""What type checkers must refuse: each line that ends with `# refused`, and no other."""
# ruff: noqa: ARG002, ARG005, B018, TC002, TC003 - the code is there to be wrong, in one way each

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import psycopg

import perdure.blocking
from perdure import App, BackgroundTask, Completed, Context, Failed, MachineState, StateMachine, Suspended, on


@dataclass
class Meta:
    shop: str


@dataclass
class Progress:
    rows: int = 0


@dataclass
class Imported:
    rows: int


@dataclass
class ShopClosed:
    since: str


app = App()


@app.task("orders.import")
async def import_orders(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed] | Suspended:
    ctx.metadata.rows  # refused
    ctx.metadata = Meta("riga")  # refused
    ctx.execution_metadata = Meta("riga")  # refused
    return Failed(Meta("riga"))  # refused


@app.task("orders.import.class")
class ImportOrders(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
    async def execute(self, ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed]:
        return Imported(1)


@app.task("nothing")
async def nothing(ctx: Context[None, None]) -> None: ...


class ReturnsAnother(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
    async def execute(self, ctx: Context[Meta, Progress]) -> Meta:  # refused
        return Meta("riga")


class TakesAnother(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
    async def execute(self, ctx: Context[Progress, Progress]) -> Imported:  # refused
        return Imported(1)


class Blocks(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
    def execute(self, ctx: perdure.blocking.Context[Meta, Progress]) -> Imported:  # refused
        return Imported(1)


@dataclass
class Placed: ...


@dataclass
class Paid: ...


Ctx = Context[Meta, MachineState[Placed | Paid]]


@app.task("machine")
class Fulfil(StateMachine[Meta, Placed | Paid, Imported, ShopClosed]):
    initial = Meta("riga")  # refused

    @on(Placed)  # refused
    async def takes_another(self, state: Paid, ctx: Ctx) -> Paid:
        return state

    @on(Placed)
    async def returns_another(self, state: Placed, ctx: Ctx) -> Paid:
        return Placed()  # refused

    @on(Placed)
    async def carries_another(self, state: Placed, ctx: Ctx) -> Suspended[Paid]:
        return Suspended(state=Placed())  # refused

    @on(Placed)
    async def carries_none(self, state: Placed, ctx: Ctx) -> Suspended:
        return Suspended(state=Placed())  # refused

    @on(Paid)
    async def completes_with_another(self, state: Paid, ctx: Ctx) -> Completed[Imported]:
        return Completed(Meta("riga"))  # refused

    @on(Paid)
    async def goes_on_elsewhere(self, state: Paid, ctx: Ctx) -> Paid:
        ctx.execution_metadata.state = Imported(1)  # refused
        return state


async def numbers() -> AsyncIterator[int]:
    yield 1


async def starts(sync: psycopg.Connection) -> None:
    await import_orders.start()  # refused
    await import_orders.start(Progress(1))  # refused
    await import_orders.start({"shop": "riga"})  # refused
    await import_orders.start(Meta("riga"), Meta("riga"))  # refused
    await import_orders.start(Meta("riga"), at="tomorrow")  # refused
    await import_orders.start(Meta("riga"), priority="high")  # refused
    await import_orders.start(Meta("riga"), quue="slow")  # refused
    await import_orders.start(Meta("riga"), connection=sync)  # refused
    await import_orders.start_many([Progress(1)])  # refused
    import_orders.start_batches([Progress(1)])  # refused
    import_orders.start_batches(Progress(each) async for each in numbers())  # refused
    await import_orders.start_batches([Meta("riga")])  # refused
    import_orders.start_batches([Meta("riga")], connection=sync)  # refused
    ImportOrders.start_batches([Progress(1)])  # refused
    app.blocking.start_batches(import_orders, [Progress(1)])  # refused
    app.blocking.start_batches(import_orders, (Meta(str(each)) async for each in numbers()))  # refused
    await ImportOrders.start(Progress(1))  # refused
    await Fulfil.start(Progress(1))  # refused
    await Fulfil.start(Meta("riga"), Placed())  # refused
    await Fulfil.start(Meta("riga"), MachineState(Imported(1)))  # refused
    await ImportOrders.start()  # refused
    await nothing.start(Meta("riga"))  # refused
    app.blocking.start(import_orders, Progress(1))  # refused
    app.blocking.start(ImportOrders, Progress(1))  # refused
    app.blocking.start(import_orders)  # refused
    app.blocking.start(ImportOrders)  # refused
    app.blocking.start(nothing, Meta("riga"))  # refused
    await import_orders.proceed(1, lambda progress: progress.rows)  # refused
    await import_orders.proceed(1, lambda progress: Meta("riga"))  # refused
    await import_orders.proceed("1")  # refused
    await ImportOrders.proceed(1, lambda progress: progress.shop)  # refused
    await import_orders.send("1", Meta("riga"))  # refused
    app.blocking.proceed(1, lambda progress: progress.rows, task=import_orders)  # refused
    job = await import_orders.start(Meta("riga"))
    (await job.result()).since  # refused
    job.state = job.state  # refused


@app.task("no context")  # refused
async def no_context(ctx: Meta) -> Imported:
    return Imported(1)


@app.task("blocking context", timeout=b"3")  # refused
async def wrong_option(ctx: Context[Meta, Progress]) -> Imported:
    return Imported(1)


@app.task("unknown option", timeuot=None)  # refused
async def unknown_option(ctx: Context[Meta, Progress]) -> Imported:
    return Imported(1)


@app.task("async context in a thread")  # refused
def in_a_thread(ctx: Context[Meta, Progress]) -> Imported:
    return Imported(1)


@app.task("no policy", retry=[1, 2])  # refused
async def no_policy(ctx: Context[Meta, Progress]) -> Imported:
    return Imported(1)


@app.task("no delay", retry=lambda *_: "soon")  # refused
async def no_delay(ctx: Context[Meta, Progress]) -> Imported:
    return Imported(1)


@app.task("no exceptions", no_retry_on=(ValueError, int))  # refused
async def no_exceptions(ctx: Context[Meta, Progress]) -> Imported:
    return Imported(1)
