"""What happens in a demo, in words: one line each, the same on a terminal and elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.demo.events import (
    AttemptBegan,
    Begun,
    Comparing,
    JobEnded,
    Missed,
    Progressed,
    Struck,
    Survived,
    WorkerStarted,
    ZombieRefused,
)
from perdure.demo.faults import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.demo.events import Event

__all__ = ["in_words", "modules"]

_DONE_TO: Final[Mapping[Kind, str]] = {
    Kind.STOP: "SIGTERM stops worker",
    Kind.KILL: "SIGKILL kills worker",
    Kind.FREEZE: "SIGSTOP freezes worker",
}


def modules(done: int, total: int) -> str:
    """Say how far it is."""
    return f"{done:,} of {total:,} modules"


def in_words(event: Event, faults: int) -> str | None:
    """Say what has happened; None for what isn't worth a line.

    Args:
        event: What has happened.
        faults: How many faults there are to be.
    """
    match event:
        case Begun():
            return (
                f"a job indexes the standard library of Python {event.python}: {event.modules:,} modules in "
                f"{event.folder}, in pages of {event.page_size}; seed {event.seed}"
            )
        case AttemptBegan(attempt=1):
            return f"worker {event.pid} begins"
        case Struck():
            return f"fault {event.number} of {faults}: {_DONE_TO[event.kind]} {event.pid} after {event.done:,} modules"
        case Survived():
            return f"worker {event.pid} goes on after {event.lost_seconds:.1f} s (attempt {event.attempt})"
        case ZombieRefused():
            return f"worker {event.pid}, thawed, wants to write: LeaseLost (attempt {event.attempt})"
        case Missed():
            return f"fault {event.number} of {faults} comes too late: the job has ended"
        case JobEnded():
            return f"the job is completed after {event.seconds:.1f} s and {event.attempts} attempts"
        case AttemptBegan() | Comparing() | Progressed() | WorkerStarted():
            return None
