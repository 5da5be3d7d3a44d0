"""An app whose tasks fail in every way, with the secret of their payload in their hands."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

import msgspec
import pydantic

from perdure import App, Context, Failed, Suspended

app = App(
    scheduling={"polling_delay": 0.1, "scheduler_retry_count": 0},
    execution={"shutdown_grace": 0.2, "cancel_grace": 0.2, "lease_duration": 2, "max_payload_bytes": 10_000},
)


class Colour(enum.Enum):
    RED = "red"


class Checked(pydantic.BaseModel):
    secret: str

    @pydantic.field_validator("secret")
    @classmethod
    def check(cls, secret: str) -> str:
        if "s3cr3t" in secret:
            message = f"{secret} isn't allowed"
            raise ValueError(message)
        return secret


@dataclass
class One:
    a: int


@dataclass
class Two:
    b: int


@dataclass
class Meta:
    secret: str


@dataclass
class Progress:
    notes: list[str] = field(default_factory=list)


async def fails(ctx: Context[Any, None]) -> None: ...


for name, type_ in {
    "number": int,
    "colour": Colour,
    "checked": Checked,
    "union": One | Two,
    "bounded": Annotated[str, msgspec.Meta(max_length=3)],
    "list": list[int],
}.items():
    fails.__annotations__["ctx"] = Context[type_, None]  # type: ignore[valid-type]
    app.task(f"unreadable.{name}")(fails)


@app.task("upgraded", version=2, upgrades={1: lambda _kind, value: 1 // 0 if value is None else {}[value["secret"]]})
async def upgraded(ctx: Context[Meta, None]) -> None: ...


@app.task("raises")
async def raises(ctx: Context[Meta, None]) -> None:
    message = f"no shop {ctx.metadata.secret}"
    raise ValueError(message)


@app.task("raises.group")
async def raises_group(ctx: Context[Meta, None]) -> None:
    message = f"group of {ctx.metadata.secret}"
    raise ExceptionGroup(message, [KeyError(ctx.metadata.secret)])


@app.task("raises.strangely")
async def raises_strangely(ctx: Context[Meta, None]) -> None:
    error = BaseException(ctx.metadata.secret)
    error.add_note(ctx.metadata.secret)
    raise error


@app.task("asks", retry=lambda _attempt, error: {}[str(error)])
async def asks(ctx: Context[Meta, None]) -> None:
    raise ValueError(ctx.metadata.secret)


@app.task("declares")
async def declares(ctx: Context[Meta, None]) -> Failed[str]:
    return Failed(ctx.metadata.secret)


@app.task("too.large")
async def too_large(ctx: Context[Meta, None]) -> str:
    return ctx.metadata.secret * 10_000


@app.task("too.large.checkpoint")
async def too_large_checkpoint(ctx: Context[Meta, Progress]) -> None:
    ctx.execution_metadata.notes = [ctx.metadata.secret] * 10_000
    await ctx.persist()


@app.task("unstorable")
async def unstorable(ctx: Context[Meta, None]) -> list[str]:
    return [ctx.metadata.secret + "\0"]


@app.task("surprising")
async def surprising(ctx: Context[Meta, None]) -> int:
    return ctx.metadata.secret  # type: ignore[return-value]


@app.task("refused.result")
async def refused_result(ctx: Context[Meta, None]) -> str:
    return ctx.metadata.secret


@app.task("refused.checkpoint")
async def refused_checkpoint(ctx: Context[Meta, Progress]) -> None:
    ctx.execution_metadata.notes = [ctx.metadata.secret]
    await ctx.persist()


@app.task("refused.altogether")
async def refused_altogether(ctx: Context[Meta, None]) -> str:
    return ctx.metadata.secret


@app.task("conflicts")
async def conflicts(ctx: Context[Meta, None]) -> None:
    async with ctx.transaction() as connection:
        await connection.execute("insert into shops values (%s), (%s)", [ctx.metadata.secret, ctx.metadata.secret])


@app.task("casts")
async def casts(ctx: Context[Meta, None]) -> None:
    async with ctx.transaction() as connection:
        await connection.execute("select %s::text::int", [ctx.metadata.secret])


@app.task("steps")
async def steps(ctx: Context[Meta, None]) -> None:
    await ctx.step("step", lambda: 1, result=int)


@app.task("sleeps")
async def sleeps(ctx: Context[Meta, None]) -> None:
    await ctx.sleep(0, key="nap")


@app.task("hears", events=One)
async def hears(ctx: Context[Meta, None]) -> Suspended:
    await ctx.next_event()
    return Suspended()


@app.task("times.out", timeout=timedelta(seconds=0.1))
async def times_out(ctx: Context[Meta, None]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError(ctx.metadata.secret)


@app.task("stays", timeout=timedelta(seconds=0.1))
async def stays(ctx: Context[Meta, None]) -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if ctx.stopping:
                raise ValueError(ctx.metadata.secret) from None


@app.task("neighbour")
async def neighbour(ctx: Context[None, None]) -> None: ...
