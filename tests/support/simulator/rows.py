"""The rows of the model: what the tables hold, as far as any statement decides by it or a test compares it.

Times are seconds of the model's clock. `tx` is the transaction that has stored a row, until that commits: nobody else
sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Ended", "Event", "Job", "Past", "Worker"]


@dataclass(slots=True)
class Job:
    """A row of `jobs`."""

    id: int
    task: str
    created: float
    due: float | None
    data: bytes
    priority: int = 0
    deadline: float | None = None
    state: int = 0
    worker: Any = None
    lapsed_worker: Any = None
    claim: int = 0
    attempt: int = 0
    retry_number: int = 0
    scheduler_retries: int = 0
    checkpoint: int = 0
    claim_checkpoint: int = 0
    lapses: int = 0
    unreadable: int = 0
    suspect: bool = False
    proceed_requested: bool = False
    proceed_at: float | None = None
    cancel_requested: bool = False
    woken_by: int = 0
    asleep: bool = False
    error: bytes | None = None
    last_error: bytes | None = None


@dataclass(slots=True)
class Ended:
    """A row of `finished_jobs`."""

    id: int
    task: str
    created: float
    due: float | None
    data: bytes
    priority: int
    state: int
    worker: Any
    claim: int
    attempt: int
    retry_number: int
    checkpoint: int
    woken_by: int
    deadline: float | None
    result: bytes | None
    error: bytes | None
    last_error: bytes | None
    tx: Any = None


@dataclass(slots=True)
class Event:
    """A row of `events`."""

    id: int
    woke: bool
    tx: Any = None


@dataclass(slots=True)
class Past:
    """A row of `attempts`."""

    attempt: int
    ending: int
    woken_by: int
    worker: Any
    error: bytes | None


@dataclass(slots=True)
class Worker:
    """A row of `workers`."""

    id: Any
    lease_until: float
    lease_seconds: float
    lapsed: bool = False
    left: bool = False
    renewed_until: float | None = None
