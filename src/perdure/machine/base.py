"""`StateMachine`, which machines are derived from. What it means is read in `reading` and done in `running`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from perdure.classes import TaskClass
from perdure.errors import MisuseError
from perdure.machine.reading import read_machine
from perdure.machine.running import run
from perdure.machine.state import MachineState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.context import Context
    from perdure.machine.plan import Machine
    from perdure.outcome import Cancelled, Completed, Failed, Suspended
    from perdure.signatures import Signature

__all__ = ["StateMachine"]

M = TypeVar("M")
S = TypeVar("S")
R = TypeVar("R")
E = TypeVar("E")


class StateMachine(TaskClass[M, MachineState[S], R, E], Generic[M, S, R, E]):
    """A task as a state machine: `class Fulfil(StateMachine[Metadata, States, Result, Error])`.

    `States` is a union of classes, and `@on(Placed)` above a method makes it the handler of one. A handler returns the
    next state, which is persisted and then handled in the same run; or an outcome, which may carry the state to be in.
    An instance is made for every attempt, as for a `BackgroundTask`.

    Attributes:
        initial: The state that a job begins in; without it, `start` has to be given a `MachineState`.
    """

    initial: S
    # Not in the mark of its task: an instance may be of a class that a resolver has derived from the machine's.
    __perdure_machine__: ClassVar[Machine | None] = None

    async def execute(self, ctx: Context[M, MachineState[S]]) -> Completed[R] | Suspended[S] | Failed[E] | Cancelled[E]:
        """Run the machine from the state that it is in."""
        plan = self.__perdure_machine__
        if plan is None:
            message = f'{type(self).__name__} is no task: decorate it with @app.task("its.name")'
            raise MisuseError(message)
        return await run(plan, self, ctx)

    @classmethod
    def __perdure_signature__(cls, where: str, names: Mapping[str, Any] | None) -> Signature:
        signature = read_machine(where, cls, StateMachine, names)
        cls.__perdure_machine__ = signature.machine
        return signature
