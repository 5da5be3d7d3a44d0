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
    words: str | None = None
    match event:
        case Begun():
            library = f"the standard library of Python {event.python}"
            words = f"a job indexes {library}: {event.modules:,} modules, {event.page_size} a page (seed {event.seed})"
        case AttemptBegan(attempt=1):
            words = f"worker {event.pid} begins"
        case Struck():
            words = f"fault {event.number} of {faults}: {_DONE_TO[event.kind]} {event.pid} after {event.done:,} modules"
        case Survived():
            words = f"worker {event.pid} goes on after {event.lost_seconds:.1f} s (attempt {event.attempt})"
        case ZombieRefused():
            words = f"worker {event.pid}, thawed, wants to write for attempt {event.attempt}: LeaseLost"
        case Missed():
            words = f"fault {event.number} of {faults} comes too late: the job has ended"
        case JobEnded():
            words = f"the job is completed after {event.seconds:.1f} s and {event.attempts} attempts"
        case AttemptBegan() | Comparing() | Progressed() | WorkerStarted():
            pass
    return words
