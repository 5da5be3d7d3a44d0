"""What a handler may return besides its result: `Suspended`, `Failed`, `Cancelled`, and `Completed` to say it outright.

Says what each means and checks it; what then becomes of the job is decided in `perdure.core.decide`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from perdure.core.failure import Raised
from perdure.due import Due, split_due
from perdure.durations import Duration, parse_duration
from perdure.errors import MisuseError

if TYPE_CHECKING:
    # A plain `Suspended` carries no state. Checkers know typing_extensions of themselves; it needn't be installed.
    from typing import Never

    from typing_extensions import TypeVar as TypeVarWithDefault

    S_co = TypeVarWithDefault("S_co", covariant=True, default=Never)
else:
    S_co = TypeVar("S_co", covariant=True)

__all__ = ["Cancelled", "Completed", "Failed", "Outcome", "Raised", "Suspended", "Value"]

R_co = TypeVar("R_co", covariant=True)
E_co = TypeVar("E_co", covariant=True)


class Ordinary(Protocol):
    """What every object is but an outcome, and only to type checkers."""

    def __sizeof__(self) -> int: ...


# A type variable for results must not swallow `Failed[E]`: else neither checker would find E, nor R without it. Types
# know no "anything but"; so outcomes lack, for the checkers alone, a method of every object, and this bound asks for
# it. The others are here because mypy looks for an object's methods neither on None nor on protocols like Collection.
Value = Ordinary | Collection[Any] | None
"""The bound of a result's type: anything but an outcome."""


class Outcome:
    """What outcomes have in common: they are no results."""

    __slots__ = ()

    if TYPE_CHECKING:
        __sizeof__: None  # type: ignore[assignment] # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]


@dataclass(frozen=True, slots=True)
class Completed(Outcome, Generic[R_co]):
    """The job is completed with this result; the same as returning the result itself.

    Attributes:
        result: The result.
        state: The state that a state machine is in from now on; None leaves it.
    """

    result: R_co
    _: KW_ONLY
    state: object = None


@dataclass(frozen=True, slots=True)
class Suspended(Outcome, Generic[S_co]):
    """The job stops here and waits until somebody lets it go on, or until a time.

    Attributes:
        until: When it goes on by itself: an aware datetime, a timedelta from now by the database's clock, or None for
            never. The past means now.
        state: The state that a state machine waits in: of `Suspended[AwaitingPayment]`. None leaves it in its state.
    """

    until: Due | None = None
    _: KW_ONLY
    state: S_co | None = None

    def __post_init__(self) -> None:
        """Refuse what is no point in time.

        Raises:
            MisuseError: `until` is a naive datetime, or no time at all.
        """
        split_due(self.until, key="Suspended(until=…)")


@dataclass(frozen=True, slots=True)
class Failed(Outcome, Generic[E_co]):
    """The attempt failed with this error: one enqueueing retry is spent, or the job is failed when none is left.

    Attributes:
        error: The error, as the handler's return annotation declares it.
        retry: False fails the job at once.
        retry_after: How long the enqueueing retry waits, as a timedelta or seconds; None, or the past, is at once.
        state: The state that a state machine is in from now on, so what a retry goes on from; None leaves it.
    """

    error: E_co
    _: KW_ONLY
    retry: bool = True
    retry_after: Duration | None = None
    state: object = None

    def __post_init__(self) -> None:
        """Refuse a wait that can't be meant.

        Raises:
            MisuseError: `retry_after` is no duration, or there is to be no retry.
        """
        if self.retry_after is None:
            return
        duration = parse_duration(self.retry_after, key="Failed(retry_after=…)")
        if not self.retry:
            message = (
                f"Failed(retry=False, retry_after={self.retry_after!r}): without a retry there is nothing to wait for; "
                "leave out one of the two"
            )
            raise MisuseError(message)
        object.__setattr__(self, "retry_after", duration)

    @property
    def retry_after_seconds(self) -> float:
        """The wait as seconds; 0 is at once."""
        after = self.retry_after
        return max(0.0, after.total_seconds()) if isinstance(after, timedelta) else 0.0


@dataclass(frozen=True, slots=True)
class Cancelled(Outcome, Generic[E_co]):
    """The job is cancelled, by its handler, with this error.

    Attributes:
        error: The error, as the handler's return annotation declares it.
        state: The state that a state machine is in from now on; None leaves it.
    """

    error: E_co
    _: KW_ONLY
    state: object = None
