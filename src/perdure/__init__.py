"""Durable background jobs on the PostgreSQL that an application already has: typed, checkpointed, exactly once.

A name is loaded when it is first asked for: `perdure --help`, which needs none of them, is then there at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from perdure.errors import JobCancelled, JobFailed, LeaseLost
from perdure.version import __version__

if TYPE_CHECKING:
    from perdure.answers import (
        CancelRequested,
        JobEnded,
        JobNotFound,
        ModificationFailed,
        MultipleJobsFound,
        NotFinal,
        NotSuspended,
        Proceeded,
        Retried,
        Sent,
    )
    from perdure.app import App
    from perdure.attempt import StopReason
    from perdure.classes import BackgroundTask
    from perdure.context import Context
    from perdure.core.codec import Tag
    from perdure.core.failure import Raised
    from perdure.core.history import AttemptEnding
    from perdure.core.states import JobState, WokenBy
    from perdure.history import AttemptRecord
    from perdure.job import Job
    from perdure.machine import MachineState, StateMachine, on
    from perdure.outcome import Cancelled, Completed, Failed, Suspended
    from perdure.query import JobQuery
    from perdure.task import Task

__all__ = [
    "App",
    "AttemptEnding",
    "AttemptRecord",
    "BackgroundTask",
    "CancelRequested",
    "Cancelled",
    "Completed",
    "Context",
    "Failed",
    "Job",
    "JobCancelled",
    "JobEnded",
    "JobFailed",
    "JobNotFound",
    "JobQuery",
    "JobState",
    "LeaseLost",
    "MachineState",
    "ModificationFailed",
    "MultipleJobsFound",
    "NotFinal",
    "NotSuspended",
    "Proceeded",
    "Raised",
    "Retried",
    "Sent",
    "StateMachine",
    "StopReason",
    "Suspended",
    "Tag",
    "Task",
    "WokenBy",
    "__version__",
    "on",
]

# The same as above, for the interpreter.
_NAMES_OF: Final = {
    "perdure.answers": (
        "CancelRequested",
        "JobEnded",
        "JobNotFound",
        "ModificationFailed",
        "MultipleJobsFound",
        "NotFinal",
        "NotSuspended",
        "Proceeded",
        "Retried",
        "Sent",
    ),
    "perdure.app": ("App",),
    "perdure.attempt": ("StopReason",),
    "perdure.classes": ("BackgroundTask",),
    "perdure.context": ("Context",),
    "perdure.core.codec": ("Tag",),
    "perdure.core.failure": ("Raised",),
    "perdure.core.history": ("AttemptEnding",),
    "perdure.core.states": ("JobState", "WokenBy"),
    "perdure.history": ("AttemptRecord",),
    "perdure.job": ("Job",),
    "perdure.machine": ("MachineState", "StateMachine", "on"),
    "perdure.outcome": ("Cancelled", "Completed", "Failed", "Suspended"),
    "perdure.query": ("JobQuery",),
    "perdure.task": ("Task",),
}
_MODULE_OF: Final = {name: module for module, names in _NAMES_OF.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found = getattr(importlib.import_module(module), name)
    globals()[name] = found  # the next time it is simply there
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
