"""A run of a machine: from handler to handler, each transition persisted, until an outcome ends the attempt."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, cast

from perdure.errors import StateRepeated
from perdure.outcome import Cancelled, Completed, Failed, Suspended

if TYPE_CHECKING:
    from perdure.context import Context
    from perdure.machine.plan import AnyOutcome, Handler, Machine
    from perdure.machine.state import MachineState

__all__ = ["run"]

_OUTCOMES: Final = frozenset({Completed, Suspended, Failed, Cancelled})


async def run(machine: Machine, instance: Any, ctx: Context[Any, MachineState[Any]]) -> AnyOutcome:
    """Run a machine from the state in its checkpoint; return the outcome for the worker, without a state.

    Raises:
        StateRepeated: It came to an equal state twice.
        MisuseError: A handler returned what its annotation doesn't have.
    """
    visited = _Visited(machine)
    visited.come_to(ctx.execution_metadata.state)
    while True:
        state = ctx.execution_metadata.state
        handler = machine.handler_of(state)
        returned = await getattr(instance, handler.method)(state, ctx)
        if returned.__class__ in _OUTCOMES:
            return _end(machine, handler, cast("AnyOutcome", returned), ctx)
        machine.check_next(handler, returned)
        visited.come_to(returned)
        ctx.execution_metadata.state = returned
        await ctx.persist()


def _end(machine: Machine, handler: Handler, outcome: AnyOutcome, ctx: Context[Any, MachineState[Any]]) -> AnyOutcome:
    machine.check_outcome(handler, outcome)
    if outcome.state is None:
        return outcome
    ctx.execution_metadata.state = outcome.state  # stored in the same write as the outcome
    return dataclasses.replace(outcome, state=None)


class _Visited:
    """The states that a run has come to, as they were then: handlers may have changed the objects since."""

    def __init__(self, machine: Machine) -> None:
        """Begin a run."""
        self._machine = machine
        self._payloads: set[bytes] = set()
        self._hashed: set[Any] = set()
        self._others: dict[type, list[Any]] = {}

    def come_to(self, state: Any) -> None:
        """Take note of a state.

        Raises:
            StateRepeated: The run has come to an equal one before, and it isn't repeatable.
            PayloadRefused: It can't be stored.
        """
        handler = self._machine.handler_of(state)
        if handler.repeatable:
            return
        codec = self._machine.states
        payload = codec.encode(state, what=f"state {type(state).__name__}", limit=None)
        # Equal payloads are equal states also where the class compares identities. Others may be equal all the same:
        # `==` may leave fields out.
        if payload in self._payloads or self._has_equal(state):
            message = (
                f"{self._machine.name} came to the state {state!r} twice in one run, and would go round for ever; if "
                f"that is meant, say @on({type(state).__name__}, repeatable=True); to wait between two looks, return "
                "Suspended(until=…), with which the run ends"
            )
            raise StateRepeated(message)
        self._payloads.add(payload)
        copy = codec.decode(payload, what=f"state {type(state).__name__}")
        if _is_hashable(copy):
            self._hashed.add((copy.__class__, copy))
        else:
            self._others.setdefault(copy.__class__, []).append(copy)

    def _has_equal(self, state: Any) -> bool:
        if _is_hashable(state):
            return (state.__class__, state) in self._hashed
        return any(state == other for other in self._others.get(state.__class__, ()))


def _is_hashable(state: object) -> bool:
    try:
        hash(state)
    except TypeError:
        return False
    return True
