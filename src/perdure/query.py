"""Which jobs to look at: `JobQuery`. Says what is asked; `perdure.store` says how it is found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import msgspec

from perdure.core.codec import codec_for
from perdure.core.states import JobState
from perdure.due import split_due
from perdure.errors import MisuseError, PayloadRefused
from perdure.shown import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["Filters", "JobQuery"]

_LARGEST_PAGE = 10_000


class Filters(TypedDict, total=False):
    """What to look for, as the store takes it; what is None or missing doesn't filter."""

    states: Sequence[int] | None
    tasks: Sequence[str] | None
    queues: Sequence[str] | None
    metadata: bytes | None
    execution_metadata: bytes | None
    created_after: datetime | None
    max_scheduled_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class JobQuery:
    """Which jobs to look at, and in which order. What is left out doesn't filter.

    Attributes:
        states: Jobs in one of these states.
        names: Jobs of the tasks of these names.
        queues: Jobs of these queues.
        metadata: Jobs whose metadata contains this: `{"shop": "riga"}` finds whatever has that key and value.
        execution_metadata: The same of their checkpoints.
        created_after: Jobs started after this.
        max_scheduled_at: Jobs that are due at this time or before it.
        page_size: How many are read at a time, 1 to 10,000; of no concern to who iterates, but for memory and speed.
        order: By id, "ascending" or "descending".
    """

    states: Iterable[JobState] | None = None
    names: Iterable[str] | None = None
    queues: Iterable[str] | None = None
    metadata: object = None
    execution_metadata: object = None
    created_after: datetime | None = None
    max_scheduled_at: datetime | None = None
    page_size: int = 100
    order: Literal["ascending", "descending"] = "ascending"

    def __post_init__(self) -> None:
        """Check the values, and keep what iterables hold.

        Raises:
            MisuseError: One isn't allowed.
        """
        states = _many("states", self.states)
        object.__setattr__(self, "states", None if states is None else tuple(_state(state) for state in states))
        object.__setattr__(self, "names", _texts("names", self.names))
        object.__setattr__(self, "queues", _texts("queues", self.queues))
        for name in ("metadata", "execution_metadata"):
            _encode(name, getattr(self, name))
        for name in ("created_after", "max_scheduled_at"):
            if split_due(getattr(self, name), key=f"JobQuery({name}=…)")[1] is not None:
                message = (
                    f"JobQuery({name}={shorten(getattr(self, name))}): a duration is no point in time; "
                    "give an aware datetime"
                )
                raise MisuseError(message)
        page_size: object = self.page_size
        if type(page_size) is not int or not 1 <= page_size <= _LARGEST_PAGE:
            message = f"JobQuery(page_size={shorten(page_size)}): allowed are 1 to {_LARGEST_PAGE}"
            raise MisuseError(message)
        if self.order not in ("ascending", "descending"):
            message = f'JobQuery(order={shorten(self.order)}): allowed are "ascending" and "descending"'
            raise MisuseError(message)

    def filters(self) -> Filters:
        """The filters as the store's calls take them."""
        return {
            "states": None if self.states is None else [state.code for state in self.states],
            "tasks": None if self.names is None else list(self.names),
            "queues": None if self.queues is None else list(self.queues),
            "metadata": _encode("metadata", self.metadata),
            "execution_metadata": _encode("execution_metadata", self.execution_metadata),
            "created_after": self.created_after,
            "max_scheduled_at": self.max_scheduled_at,
        }


def _many(name: str, values: object) -> tuple[Any, ...] | None:
    if isinstance(values, str):
        message = f"JobQuery({name}={shorten(values)}): a text alone; give a list: {name}=[{shorten(str(values))}]"
        raise MisuseError(message)
    if values is None:
        return None
    if not isinstance(values, Iterable):
        message = f"JobQuery({name}={shorten(values)}): give a list"
        raise MisuseError(message)
    return tuple(values)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - whatever they are


def _texts(name: str, values: object) -> tuple[str, ...] | None:
    texts = _many(name, values)
    for text in texts or ():
        # A lone surrogate, which PostgreSQL can't be told, becomes a question mark.
        if not isinstance(text, str) or "\0" in text or text.encode(errors="replace").decode() != text:
            message = f"JobQuery({name}=[{shorten(text)}]): that is no text that could be in the database"
            raise MisuseError(message)
    return texts


def _state(value: Any) -> JobState:
    try:
        return JobState(value)
    except Exception:  # noqa: BLE001 - an enum's own message shows the value, whose repr may do anything
        message = f"JobQuery(states=[{shorten(value)}]): there is no such state; the states are {', '.join(JobState)}"
        raise MisuseError(message) from None


def _encode(name: str, value: object) -> bytes | None:
    if value is None:
        return None
    try:
        return codec_for(Any).encode(msgspec.to_builtins(value, enc_hook=_of_pydantic), what="it", limit=None)
    except (TypeError, ValueError, RecursionError, PayloadRefused, msgspec.MsgspecError) as error:
        message = f"JobQuery({name}={shorten(value)}): can't be written as JSON: {error}"
        raise MisuseError(message) from error


def _of_pydantic(value: object) -> object:
    """Write a model of pydantic's as it is stored; pydantic is never imported."""
    serializer: Any = getattr(type(value), "__pydantic_serializer__", None)
    if serializer is None:
        message = f"there is no JSON for a value of type {type(value).__qualname__}"
        raise TypeError(message)
    return serializer.to_python(value, mode="json", by_alias=True, round_trip=True, warnings=False)
