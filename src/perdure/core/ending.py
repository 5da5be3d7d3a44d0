"""How an attempt can end: what `perdure.core.decide` is asked about.

Values only, and pure: chance and the users' own functions have spoken before one of these is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from perdure.errors import MisuseError

__all__ = [
    "Cancel",
    "Deadline",
    "Ending",
    "Fail",
    "Lapse",
    "Raise",
    "Returned",
    "Shutdown",
    "Suspend",
    "UserCancel",
]


@dataclass(frozen=True, slots=True)
class Returned:
    """The handler returned a value: the job's result."""


@dataclass(frozen=True, slots=True)
class Suspend:
    """The handler returned `Suspended`, or its `ctx.sleep()` suspends the job.

    Attributes:
        until: When the job goes on by itself: an aware time, or a duration from now; None is never.
        asleep: Whether it sleeps, so that no event wakes it before the time.
    """

    until: datetime | timedelta | None = None
    asleep: bool = False

    def __post_init__(self) -> None:
        """Refuse a time that means another moment on every machine.

        Raises:
            MisuseError: `until` is a naive datetime.
        """
        if isinstance(self.until, datetime) and self.until.utcoffset() is None:
            message = (
                f"a job can't be suspended until {self.until.isoformat()}: the time has no zone; "
                "give an aware datetime, such as datetime.now(UTC), or a timedelta"
            )
            raise MisuseError(message)


@dataclass(frozen=True, slots=True)
class Fail:
    """The handler returned `Failed`.

    Attributes:
        retry: Whether the failure may be retried.
        retry_after_seconds: How long an enqueueing retry waits; 0 is at once.
    """

    retry: bool = True
    retry_after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Cancel:
    """The handler returned `Cancelled`."""


@dataclass(frozen=True, slots=True)
class Raise:
    """The handler raised, or ran past its time-out.

    Attributes:
        retry: Whether the task allows a retry of this error, on either level.
        delay_seconds: How long the task's own function lets the next attempt wait, without a count; None: there is no
            such function, or it had no answer, and the policy decides.
        chance: A random number from 0 to 1, for a policy with jitter: which part of its longest wait to take.
    """

    retry: bool = True
    delay_seconds: float | None = None
    chance: float = 1.0


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The worker stopped, and stopped the handler with it."""


@dataclass(frozen=True, slots=True)
class UserCancel:
    """A user cancelled the job while its handler ran, and the handler was stopped for it."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The job's own deadline passed while its handler ran, and the handler was stopped for it."""


@dataclass(frozen=True, slots=True)
class Lapse:
    """The worker's lease ended with the job in hand: the process is lost, frozen or cut off.

    Attributes:
        persisted: Whether this attempt wrote any execution metadata, so that the job got further.
        ever_reported: Whether the worker reported after all, so that it wasn't this job that killed it.
    """

    persisted: bool
    ever_reported: bool


Ending = Returned | Suspend | Fail | Cancel | Raise | Shutdown | UserCancel | Deadline | Lapse
"""How an attempt can end."""
