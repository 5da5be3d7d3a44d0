"""All orders in which the steps of a few actors can come, each tried on a scene that is set anew.

An actor is an async generator: between two yields it makes one step. A step that waits for a lock is left waiting until
another's commit lets it go on; an actor that yields `LATER` makes its next step only after another's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from tests.support.races.stage import Stage

__all__ = ["LATER", "Actor", "Deadlock", "Endless", "Order", "explore"]

LATER = "later"
_DONE = "done"
_LOOK_SECONDS = 0.004
_DEADLINE_SECONDS = 60.0
_MOST_STEPS = 80


class Deadlock(AssertionError):
    """All wait for each other."""


class Endless(AssertionError):
    """Somebody tries again for ever."""


class Choice(NamedTuple):
    """Who was taken, of how many who could have been."""

    taken: int
    among: int


class Order(NamedTuple):
    """An order of steps: the names of the actors, as they made them."""

    steps: tuple[str, ...]


class Actor:
    """Somebody who makes steps on a connection of his own.

    Attributes:
        name: What he does; two of one name are alike.
        backend: The process that serves his connection.
    """

    def __init__(self, name: str, script: AsyncGenerator[str | None], backend: int) -> None:
        self.name = name
        self.backend = backend
        self.has_begun = self.is_done = self.comes_later = False
        self.waiting: asyncio.Task[Any] | None = None
        self._script = script

    def begin_step(self) -> asyncio.Task[Any]:
        """Begin a step."""
        self.has_begun = True
        return asyncio.ensure_future(_next(self._script))

    def end_step(self, task: asyncio.Task[Any]) -> None:
        """Take note of what the step has brought."""
        answer = task.result()
        self.waiting = None
        self.is_done = answer == _DONE
        self.comes_later = answer == LATER


async def _next(script: AsyncGenerator[str | None]) -> str | None:
    return await anext(script, _DONE)


async def explore(
    stage: Stage,
    make: Callable[[], Awaitable[Sequence[Actor]]],
    judge: Callable[[Order], Awaitable[None]],
    *,
    limit: int | None = None,
    chance: random.Random | None = None,
) -> int:
    """Try all orders; or `limit` that chance draws. Returns how many were tried.

    Args:
        stage: Where they are.
        make: Sets the scene, and returns its actors.
        judge: Looks at what has become of it.
        limit: The most orders; then they are drawn.
        chance: What draws them.
    """
    if limit is not None:
        # Few orders are tried one by one all the same.
        tried = await _all_orders(stage, make, judge, most=limit)
        if tried is not None:
            return tried
        assert chance is not None
        for _ in range(limit):
            await _run(stage, make, judge, [], chance)
        return limit
    tried = await _all_orders(stage, make, judge, most=None)
    assert tried is not None
    return tried


async def _all_orders(
    stage: Stage,
    make: Callable[[], Awaitable[Sequence[Actor]]],
    judge: Callable[[Order], Awaitable[None]],
    *,
    most: int | None,
) -> int | None:
    """Try one after the other, depth first; None: there are more than `most`, of which the first were tried."""
    prefix: list[int] = []
    tried = 0
    while True:
        choices = await _run(stage, make, judge, prefix, None)
        tried += 1
        while choices and choices[-1].taken == choices[-1].among - 1:
            choices.pop()
        if not choices:
            return tried
        if most is not None and tried >= most // 3:
            return None
        prefix = [choice.taken for choice in choices]
        prefix[-1] += 1


async def _run(
    stage: Stage,
    make: Callable[[], Awaitable[Sequence[Actor]]],
    judge: Callable[[Order], Awaitable[None]],
    prefix: list[int],
    chance: random.Random | None,
) -> list[Choice]:
    actors = await make()
    choices: list[Choice] = []
    steps: list[str] = []
    try:
        while not all(actor.is_done for actor in actors):
            able = _able(actors)
            if not able:
                await _let_go_on(stage, actors)
                continue
            place = len(choices)
            # On a busy machine a step may look as if it waited for a lock, and the next time not: then fewer are able.
            known = min(prefix[place], len(able) - 1) if place < len(prefix) else 0
            taken = known if chance is None else chance.randrange(len(able))
            choices.append(Choice(taken, len(able)))
            steps.append(able[taken].name)
            _check_end(steps)
            await _perform(stage, able[taken], actors)
        await judge(Order(tuple(steps)))
    except BaseException as error:
        error.add_note(f"in the order: {', '.join(steps)}")
        await stage.abandon([actor.waiting for actor in actors if actor.waiting is not None])
        raise
    return choices


def _check_end(steps: Sequence[str]) -> None:
    if len(steps) > _MOST_STEPS:
        message = f"no end after {_MOST_STEPS} steps"
        raise Endless(message)


def _able(actors: Sequence[Actor]) -> list[Actor]:
    """Who can make a step; of those that are alike and haven't begun, the first."""
    able: list[Actor] = []
    fresh: set[str] = set()
    for actor in actors:
        if actor.is_done or actor.waiting is not None or actor.comes_later:
            continue
        if not actor.has_begun:
            if actor.name in fresh:
                continue
            fresh.add(actor.name)
        able.append(actor)
    return able


async def _perform(stage: Stage, actor: Actor, actors: Sequence[Actor]) -> None:
    task = actor.begin_step()
    if await _ends(stage, actor, task):
        actor.end_step(task)
    else:
        actor.waiting = task
    for other in actors:
        if other is not actor:
            other.comes_later = False
    while await _ends_of_waits(stage, actors):
        pass  # whoever goes on may let others go on


async def _ends_of_waits(stage: Stage, actors: Sequence[Actor]) -> bool:
    """See to those who waited for a lock and have it now; whether there was one."""
    has_ended = False
    for actor in actors:
        waiting = actor.waiting
        if waiting is not None and await _ends(stage, actor, waiting):
            actor.end_step(waiting)
            has_ended = True
    return has_ended


async def _ends(stage: Stage, actor: Actor, task: asyncio.Task[Any]) -> bool:
    """Whether the step ends; False: it waits for a lock."""
    deadline = asyncio.get_running_loop().time() + _DEADLINE_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.wait({task}, timeout=_LOOK_SECONDS)
        if task.done():
            return True
        if await stage.waits(actor.backend):
            return False
    message = f"{actor.name} neither ends nor waits for a lock"
    raise TimeoutError(message)


async def _let_go_on(stage: Stage, actors: Sequence[Actor]) -> None:
    """Nobody can make a step: those that come later do so now; if there is none, PostgreSQL finds the deadlock.

    Raises:
        Deadlock: All wait for each other.
    """
    later = [actor for actor in actors if actor.comes_later]
    if later:
        for actor in later:
            actor.comes_later = False
        return
    waiting = {actor.waiting: actor for actor in actors if actor.waiting is not None}
    message = f"{', '.join(actor.name for actor in waiting.values())} wait for each other"
    raise Deadlock(message)
