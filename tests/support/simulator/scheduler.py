"""The scheduler: which actor makes the next step, and which faults befall it, drawn from a seed.

An actor is a generator. It yields a statement and gets its answer, or `Lost` when the connection breaks; or `Until`,
and goes on when that holds; or None, and goes on when its turn comes. Between two yields nobody else does anything.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from tests.support.simulator.leases import Model
from tests.support.simulator.model import Blocked, Tx

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.simulator.process import Process

__all__ = ["FAULTS", "Actor", "Exchange", "Lost", "Script", "Stuck", "Until", "World"]

Script = Generator[Any, Any, Any]
"""An actor's steps."""
_LONGEST_RUN = 1000
FAULTS = ("late", "never", "answer lost", "answer lost")
"""What may befall a statement: the connection breaks, and it arrives late, never, or at once."""


class Lost(Exception):
    """The connection has broken: nobody knows whether the statement was done."""


class Stuck(AssertionError):
    """Something waits that nothing will let go on (I8)."""


class Until:
    """What an actor waits for: a time, or a condition."""

    __slots__ = ("at", "holds")

    def __init__(self, holds: Callable[[], bool] | None = None, at: float | None = None) -> None:
        self.holds = holds
        self.at = at


class Exchange:
    """Statements in one transaction, sent in one message: once sent, it needs its client no more.

    `last` is done when the others are committed, so that what a job goes through can be looked at one by one.
    """

    __slots__ = ("last", "statements")

    def __init__(
        self, statements: list[Callable[[Tx | None], Any]], last: Callable[[Tx | None], Any] | None = None
    ) -> None:
        self.statements = statements
        self.last = last

    def __call__(self) -> list[Any]:
        """Do all of it at once."""
        answers = [statement(None) for statement in self.statements]
        return answers if self.last is None else [*answers, self.last(None)]


class _Reply:
    """What an exchange that the server does in parts has answered."""

    __slots__ = ("answers",)

    def __init__(self) -> None:
        self.answers: list[Any] | None = None


class Actor:
    """Somebody who makes steps."""

    __slots__ = ("answer", "is_answered", "name", "pending", "process", "script")

    def __init__(self, name: str, script: Any, process: Process | None) -> None:
        self.name = name
        self.script = script
        self.process = process
        self.pending: Any = None
        self.is_answered = False
        self.answer: Any = None


class World:
    """All that there is.

    Attributes:
        model: The store.
        chance: Where everything is drawn from.
        faults: The share of statements that a fault befalls; 0 from when all is to come to rest.
        steps: What was done, by whom, if that is to be shown.
    """

    def __init__(self, chance: random.Random, *, broken: Iterable[str] = (), traces: bool = False) -> None:
        self.model = Model(broken)
        self.chance = chance
        self.faults = 0.0
        self.steps: list[str] | None = [] if traces else None
        self.actors: list[Actor] = []
        self.processes: list[Process] = []
        self.count = 0
        self.after_step: Callable[[], None] = lambda: None

    @property
    def now(self) -> float:
        """The time."""
        return self.model.now

    def broken(self, guard: str) -> bool:
        """Whether this guard is left out."""
        return guard in self.model.broken

    def add(self, name: str, script: Any, process: Process | None = None) -> Actor:
        """Let somebody begin."""
        actor = Actor(name, script, process)
        self.actors.append(actor)
        return actor

    def say(self, what: str) -> None:
        """Take note of what is done."""
        if self.steps is not None:
            self.steps.append(f"{self.now:8.3f}  {what}")

    # --- steps

    def runnable(self) -> list[Actor]:
        """Who could make a step."""
        now, found = self.model.now, []
        for actor in self.actors:
            process, pending = actor.process, actor.pending
            if process is not None and process.frozen_until is not None:
                continue
            kind = pending.__class__
            if kind is Until:
                if (pending.at is None or now < pending.at) and (pending.holds is None or not pending.holds()):
                    continue
            elif kind is _Reply and pending.answers is None:
                continue
            found.append(actor)
        return found

    def step(self) -> bool:
        """Let one who can make a step; False when nobody can."""
        runnable = self.runnable()
        if not runnable:
            return False
        chance, fault = self.chance, None
        actor = runnable[int(chance.random() * len(runnable))]
        if self.faults and chance.random() < self.faults:
            fault = FAULTS[int(chance.random() * len(FAULTS))]
        self.perform(actor, fault)
        return True

    def perform(self, actor: Actor, fault: str | None = None) -> None:
        """Let somebody make a step; a fault befalls it if it is a worker's statement."""
        self.count += 1
        pending = actor.pending
        if pending is None or pending.__class__ is Until:
            self._resume(actor, None)
        elif pending.__class__ is _Reply:
            self._resume(actor, pending.answers)
        elif actor.is_answered:
            self._resume(actor, actor.answer)
        else:
            self._serve(actor, pending, None if actor.process is None else fault)
        self.after_step()

    def _serve(self, actor: Actor, statement: Any, fault: str | None) -> None:
        if fault in {"late", "never"}:
            self.say(f"{actor.name}: the connection breaks ({_name(statement)} arrives {fault})")
            if fault == "late":
                self.add(f"{actor.name} (late)", _late(statement))
            self._throw(actor, Lost())
            return
        if statement.__class__ is Exchange and self.chance.random() < 0.3:
            reply = actor.pending = _Reply()
            self.add(f"{actor.name} (at the server)", self._in_parts(statement, reply))
            return
        try:
            answer = statement()
        except Blocked:
            return
        except AssertionError:
            raise
        except Exception as error:  # noqa: BLE001 - the actor's to see to
            self.say(f"{actor.name}: {_name(statement)} -> {error!r}")
            self._throw(actor, error)
            return
        self.say(f"{actor.name}: {_name(statement)} -> {answer!r}")
        if fault is not None:
            self.say(f"{actor.name}: the answer is lost")
            self._throw(actor, Lost())
        elif self.chance.random() < 0.5:
            actor.answer, actor.is_answered = answer, True
        else:
            self._resume(actor, answer)

    def _in_parts(self, exchange: Exchange, reply: _Reply) -> Any:
        tx, answers = Tx(self.model), []
        for statement in exchange.statements:
            answers.append(statement(tx))
            self.say(f"(at the server): {_name(statement)} -> {answers[-1]!r}, not committed yet")
            yield None
        tx.commit()
        self.say("(at the server): commit")
        if exchange.last is not None:
            answers.append(exchange.last(None))
            self.say(f"(at the server): {_name(exchange.last)} -> {answers[-1]!r}")
        reply.answers = answers

    def _resume(self, actor: Actor, answer: Any) -> None:
        actor.is_answered = False
        if actor.process is not None:
            actor.process.turned()
        try:
            actor.pending = actor.script.send(answer)
        except StopIteration:
            self.remove(actor)

    def _throw(self, actor: Actor, error: BaseException) -> None:
        actor.is_answered = False
        try:
            actor.pending = actor.script.throw(error)
        except StopIteration:
            self.remove(actor)

    def send_late(self, actor: Actor) -> None:
        """Somebody has gone: what he was about to send may have been sent."""
        if self.chance.random() < 0.5:
            self.add(f"{actor.name} (late)", _late(actor.pending))

    def remove(self, actor: Actor) -> None:
        """Let nothing be heard of somebody any more."""
        if actor in self.actors:
            self.actors.remove(actor)

    # --- time

    def pass_time(self, seconds: float) -> None:
        """Let time pass; those that were frozen for long enough thaw."""
        self.model.now += seconds
        for process in self.processes:
            if process.frozen_until is not None and self.model.now >= process.frozen_until:
                process.thaw()

    def skip_to_next(self, further: Iterable[float] = ()) -> None:
        """Nobody can do anything: let time pass until somebody can.

        Raises:
            Stuck: Nobody waits for a time.
        """
        now = self.model.now
        times = [
            actor.pending.at
            for actor in self.actors
            if actor.pending.__class__ is Until and actor.pending.at is not None
        ]
        times += [process.frozen_until for process in self.processes if process.frozen_until is not None]
        later = [at for at in (*times, *further) if at > now]
        if not later:
            message = "nobody can do anything any more"
            raise Stuck(message)
        self.pass_time(min(later) - now + 1e-6)

    def come_to_rest(self, is_at_rest: Callable[[], bool], further: Callable[[], Iterable[float]]) -> None:
        """Go on without faults until all is at rest.

        Raises:
            Stuck: It doesn't come to rest.
        """
        self.faults, self.chance = 0.0, random.Random(self.count)
        end = self.count + _LONGEST_RUN
        while not is_at_rest():
            if self.count > end:
                message = f"not at rest after {_LONGEST_RUN} more steps"
                raise Stuck(message)
            if not self.step():
                self.skip_to_next(further())


def _late(statement: Any) -> Any:
    yield None
    while True:
        try:
            statement()
        except Blocked:
            yield None
        except AssertionError:
            raise
        except Exception:  # noqa: BLE001 - nobody hears of it
            return
        else:
            return


def _name(statement: Any) -> str:
    if statement.__class__ is Exchange:
        parts = [*statement.statements, *([] if statement.last is None else [statement.last])]
        return " + ".join(_name(part) for part in parts)
    return str(getattr(statement, "__name__", statement))
