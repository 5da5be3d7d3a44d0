"""What a twin is: see `twins`, which makes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from perdure.core.codec.misfit import Misfit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Raw", "Twin", "encode", "lift_at", "reader_of"]

encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Twin:
    """A type that msgspec knows, for one that it doesn't.

    Attributes:
        type: What msgspec decodes. `Raw` when it can only find where the JSON ends; no union can have that as a member.
        raw: The class of what comes of decoding, as far as `lift` depends on it.
        lower: Makes of a value what msgspec encodes; None when that is the value itself.
        lift: Makes a value of what msgspec has decoded; None when that is the value itself.
    """

    type: Any
    raw: Any = None
    lower: Callable[[Any], Any] | None = None
    lift: Callable[[Any], Any] | None = None

    def limited(self, annotation: Any) -> Twin:
        """Add constraints."""
        return self if self.type is Raw else replace(self, type=annotation)

    def lowered(self, value: Any) -> Any:
        """Return what msgspec encodes for a value."""
        return value if self.lower is None else self.lower(value)

    def lifted(self, decoded: Any) -> Any:
        """Return the value of what msgspec has decoded."""
        return decoded if self.lift is None else self.lift(decoded)


def reader_of(twin: Twin) -> Callable[[bytes], Any]:
    """Return what makes a value of JSON."""
    lift = twin.lift
    if twin.type is Raw and lift is not None:
        return lambda data: lift(Raw(data))
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(twin.type).decode
    return decode if lift is None else lambda data: lift(decode(data))


def lift_at(lift: Callable[[Any], Any], decoded: Any, path: str) -> Any:
    """Lift a part, and tell where it is when that fails.

    Raises:
        Misfit: It can't be lifted.
    """
    try:
        return lift(decoded)
    except Exception as error:
        raise Misfit.of(error).within(path) from error
