"""What type checkers read off handlers alone. Never run: mypy and pyright, both strict, must accept every line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Never, TypedDict, assert_type

import msgspec
import psycopg

import perdure.blocking
from perdure import App, BackgroundTask, Cancelled, Completed, Context, Failed, Suspended, Task
from perdure.retry import Exponential, FixedDelays


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


@dataclass
class Refused:
    by: str


class Left(msgspec.Struct):
    left: int


class Right(msgspec.Struct):
    right: int


class Table(TypedDict):
    rows: int


class Shops:
    def get(self, kind: type[object]) -> object: ...


app = App("postgresql:///", scheduling={"batch_size": 10}, resolver=Shops().get)


@app.task("result")
async def result(ctx: Context[Meta, Progress]) -> Imported:
    assert_type(ctx.metadata, Meta)
    assert_type(ctx.execution_metadata, Progress)
    assert_type(ctx.attempt, int)
    ctx.execution_metadata = Progress(1)
    await ctx.persist()
    async with ctx.transaction() as connection:
        assert_type(connection, psycopg.AsyncConnection[Any])
    return Imported(1)


@app.task("suspends", queue="slow", priority=5, timeout=timedelta(hours=2), max_retry_count=1)
async def suspends(ctx: Context[Meta, Progress]) -> Imported | Suspended:
    return Suspended() if ctx.attempt else Suspended(until=timedelta(hours=1))


@app.task(
    "fails",
    scheduler_retry_count=3,
    scheduler_retry_delays=[1, 2.5, "00:01:00", timedelta(minutes=1)],
    timeout=30,
    deadline="1.00:00:00",
)
async def fails(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed]:
    return Failed(ShopClosed("today"), retry=False) if ctx.stopping else Imported(1)


@app.task("cancels")
async def cancels(ctx: Context[Meta, Progress]) -> Imported | Cancelled[ShopClosed]:
    return Cancelled(ShopClosed("today"))


@app.task("everything")
async def everything(
    ctx: Context[Meta, Progress],
) -> Imported | Failed[ShopClosed] | Suspended | Cancelled[ShopClosed]:
    return Suspended(until=datetime.now(UTC))


@app.task("two errors")
async def two_errors(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed] | Cancelled[Refused]:
    return Cancelled(Refused("ann"))


@app.task("error union")
async def error_union(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed | Refused]:
    return Failed(Refused("ann"))


@app.task("nothing")
async def nothing(ctx: Context[None, None]) -> None: ...


@app.task("nothing or error")
async def nothing_or_error(ctx: Context[None, None]) -> Failed[str] | Suspended | None:
    return None


@app.task("never ends")
async def never_ends(ctx: Context[None, None]) -> Suspended:
    return Suspended()


@app.task("only fails")
async def only_fails(ctx: Context[None, None]) -> Failed[str]:
    return Failed("always")


@app.task("union")
async def union(ctx: Context[int | str, list[int]]) -> Left | Right:
    return Left(1)


@app.task("optional")
async def optional(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed] | None:
    return None


@app.task("completed")
async def completed(ctx: Context[Meta, Progress]) -> Completed[Left | Right] | Failed[str] | Suspended:
    return Completed(Left(1))


@app.task("containers")
async def containers(ctx: Context[Table, dict[str, list[int]]]) -> dict[str, Table] | Suspended:
    return {"a": ctx.metadata}


@app.task("typed dict")
async def typed_dict(ctx: Context[Table, None]) -> Table | Failed[Table]:
    return ctx.metadata


@app.task("blocking result")
def blocking_result(ctx: perdure.blocking.Context[Meta, Progress]) -> Imported:
    assert_type(ctx.metadata, Meta)
    assert_type(ctx.execution_metadata, Progress)
    ctx.persist()
    with ctx.transaction() as connection:
        assert_type(connection, psycopg.Connection[Any])
    return Imported(1)


@app.task("blocking everything")
def blocking_everything(
    ctx: perdure.blocking.Context[Meta, Progress],
) -> Imported | Failed[ShopClosed] | Suspended | Cancelled[Refused]:
    return Suspended()


@app.task("blocking nothing")
def blocking_nothing(ctx: perdure.blocking.Context[None, None]) -> None: ...


@app.task("class")
class Import(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
    def __init__(self, shops: Shops) -> None:
        self.shops = shops

    async def execute(self, ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed]:
        assert_type(ctx.metadata, Meta)
        return Imported(1)


@app.task("class without errors")
class Quiet(BackgroundTask[None, None, None, Never]):
    async def execute(self, ctx: Context[None, None]) -> None:
        assert_type(ctx.metadata, None)


@app.task("blocking class")
class BlockingImport(perdure.blocking.BackgroundTask[Meta, Progress, Imported, ShopClosed]):
    def execute(self, ctx: perdure.blocking.Context[Meta, Progress]) -> Imported | Suspended:
        return Suspended(until=timedelta(hours=ctx.attempt))


assert_type(result, Task[Meta, Progress, Imported, Never])
assert_type(suspends, Task[Meta, Progress, Imported, Never])
assert_type(fails, Task[Meta, Progress, Imported, ShopClosed])
assert_type(cancels, Task[Meta, Progress, Imported, ShopClosed])
assert_type(everything, Task[Meta, Progress, Imported, ShopClosed])
assert_type(two_errors, Task[Meta, Progress, Imported, ShopClosed | Refused])
assert_type(error_union, Task[Meta, Progress, Imported, ShopClosed | Refused])
assert_type(nothing, Task[None, None, None, Never])
assert_type(nothing_or_error, Task[None, None, None, str])
assert_type(never_ends, Task[None, None, None, Never])
assert_type(only_fails, Task[None, None, None, str])
assert_type(union, Task[int | str, list[int], Left | Right, Never])
assert_type(optional, Task[Meta, Progress, Imported | None, ShopClosed])
assert_type(completed, Task[Meta, Progress, Left | Right, str])
assert_type(containers, Task[Table, dict[str, list[int]], dict[str, Table], Never])
assert_type(typed_dict, Task[Table, None, Table, Table])
assert_type(blocking_result, Task[Meta, Progress, Imported, Never])
assert_type(blocking_everything, Task[Meta, Progress, Imported, ShopClosed | Refused])
assert_type(blocking_nothing, Task[None, None, None, Never])


async def calls_directly(ctx: Context[Meta, Progress], blocking: perdure.blocking.Context[Meta, Progress]) -> None:
    outcome = await fails(ctx)
    assert not isinstance(outcome, Imported | Completed | Suspended | Cancelled)
    assert_type(outcome.error, ShopClosed)
    assert isinstance(blocking_result(blocking), Imported)


def from_the_first(old: Any) -> Any:
    return old


def own_policy(attempt: int, error: BaseException) -> timedelta | None:
    return timedelta(seconds=attempt) if isinstance(error, OSError) else None


@app.task("own policy", retry=own_policy, no_retry_on=ValueError, deadline=timedelta(days=1), events=Meta | Progress)
async def with_own_policy(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed]:
    return Failed(ShopClosed("noon"), retry_after=timedelta(minutes=5))


@app.task("growing", retry=Exponential(1, cap=timedelta(hours=1), count=9), no_retry_on=(ValueError, KeyError))
async def with_growing_delays(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed]:
    return Failed(ShopClosed("noon"), retry_after=0.5)


@app.task("fixed", retry=FixedDelays([1, 2.5, timedelta(minutes=1)]), version=2, upgrades={1: from_the_first})
async def with_fixed_delays(ctx: Context[Meta, Progress]) -> Imported:
    return Imported(1)


assert_type(with_own_policy, Task[Meta, Progress, Imported, ShopClosed])
assert_type(with_growing_delays, Task[Meta, Progress, Imported, ShopClosed])
assert_type(with_fixed_delays, Task[Meta, Progress, Imported, Never])
