"""Typed payloads to JSON and back, without loss: what can't come back equal isn't stored.

Knows the types and JSON; not the columns, the tasks, or when something is stored.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from perdure.core.codec.certain import certainty_of
from perdure.core.codec.defaults import default_maker
from perdure.core.codec.faults import Faults
from perdure.core.codec.filling import filler_of
from perdure.core.codec.hints import show_type
from perdure.core.codec.misfit import Misfit
from perdure.core.codec.nodes import Anything, Choice, Json, Model, Node
from perdure.core.codec.reading import Reader
from perdure.core.codec.restoring import put_back
from perdure.core.codec.text import DEEPEST, check_text, write_out_exponents
from perdure.core.codec.twin import encode, reader_of
from perdure.core.codec.twins import Weaver, parts_of
from perdure.core.codec.unknown import find_unknown_key
from perdure.errors import DefinitionError, PayloadRefused, PayloadTooLarge, PayloadUndecodable
from perdure.shown import shorten

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Codec", "codec_for"]

T = TypeVar("T")
_SHALLOW: Final = 2 * DEEPEST
"""JSON of no more bytes isn't nested too deeply."""


class Codec(Generic[T]):
    """Encodes and decodes payloads of one type.

    Attributes:
        type: The type, as it was annotated; `NoneType` for `None`.
        name: Its name, for messages.
    """

    def __init__(self, annotation: Any) -> None:
        """Read the annotation.

        Raises:
            DefinitionError: A part of it can't be stored; the message says which, and what to do instead.
        """
        self.type: Any = type(None) if annotation is None else annotation
        self.name = show_type(self.type)
        self._node = Reader().read(self.type, self.name)
        self._weaver = Weaver()
        twin = self._weaver.twin(self._node)
        try:
            self._read: Callable[[bytes], T] = reader_of(twin)
        except (TypeError, NotImplementedError) as error:
            message = f"{self.name} can't be stored: {error}"
            raise DefinitionError(message) from error
        self._write: Callable[[T], bytes] = self._writer(twin.lower)
        self._is_certain = certainty_of(self._node)
        self._default = default_maker(self._node)
        self._fill = filler_of(self._node)

    def __repr__(self) -> str:
        return f"<Codec of {self.name}>"

    def encode(self, value: T, *, what: str, limit: int | None) -> bytes:
        """Encode a value, having made sure that decoding gives an equal one.

        Args:
            value: What to encode.
            what: What to call it in errors: "metadata of orders.import".
            limit: The most bytes that are allowed, None for any number.

        Returns:
            JSON in UTF-8.

        Raises:
            PayloadRefused: It can't be stored without loss; the message says where in it and why.
            PayloadTooLarge: Its JSON is longer than the limit.
        """
        data = b""
        try:
            data = self._write(value)
            fits = self._is_certain(value) and len(data) <= _SHALLOW and b"\\u0000" not in data
        except Exception:  # noqa: BLE001 - whatever it is, it is looked into
            fits = False
        if not fits:
            self._check(value, data, what)
        if limit is not None and len(data) > limit:
            message = f"{what}: {len(data):,} bytes of JSON; allowed are {limit:,} (execution.max_payload_bytes)"
            raise PayloadTooLarge(message)
        return data

    def decode(self, data: bytes, *, what: str) -> T:
        """Decode a value. Keys that the type doesn't know are passed over, missing fields get their defaults.

        Args:
            data: JSON in UTF-8.
            what: What to call it in errors.

        Raises:
            PayloadUndecodable: It doesn't fit the type; the message says where and why.
        """
        try:
            value = self._read(data)
            if self._fill is not None:
                self._fill(value)
        except MemoryError:
            raise
        except Exception as error:
            raise PayloadUndecodable(Misfit.of(error).describe(what)) from error
        return value

    def check_keys(self, data: bytes, *, what: str) -> None:
        """Refuse the keys that `decode` passes over: of JSON that somebody wrote just now they are mistakes.

        Args:
            data: JSON that `decode` takes.
            what: What to call it in errors.

        Raises:
            PayloadUndecodable: There is such a key; the message says where, and which keys are known there.
        """
        misfit = find_unknown_key(self._node, msgspec.json.decode(data))
        if misfit is not None:
            raise PayloadUndecodable(misfit.describe(what))

    def default(self) -> T:
        """Make a fresh value for a job that is started without one.

        Raises:
            PayloadRefused: The type has no default; the message says which field lacks one.
        """
        make = self._default
        if isinstance(make, str):
            raise PayloadRefused(make)
        value: T = make()
        return value

    def restore(self, target: T, data: bytes) -> T:
        """Decode a value into an object: its own content is replaced, in place, where it can be changed.

        What it contains is made anew, so that objects which found their way into it aren't touched.

        Args:
            target: The object.
            data: What it is to be.

        Returns:
            The object, or a new one where it can't be changed or is of another class.

        Raises:
            PayloadUndecodable: The JSON doesn't fit the type.
        """
        return put_back(target, self.decode(data, what=self.name))

    def _writer(self, lower: Callable[[Any], Any] | None) -> Callable[[Any], bytes]:
        write: Callable[[Any], bytes] = encode
        if lower is not None:
            write = _in_turn(lower, encode)
        if any(map(_is_loose, parts_of(self._node))):
            write = _in_turn(write, write_out_exponents)
        return write

    def _check(self, value: T, data: bytes, what: str) -> None:
        """Make sure that a value comes back, by trying; where `==` says no it may still do so: that is looked into."""
        try:
            check_text(data)
            if self._read(data) == value:
                return
        except Exception:  # noqa: BLE001, S110 - as above
            pass
        misfit = self._find_fault(value)
        if misfit is None and not data:
            misfit = Misfit(f"{shorten(value)} can't be encoded")
        if misfit is not None:
            raise PayloadRefused(misfit.describe(what))

    def _find_fault(self, value: T) -> Misfit | None:
        try:
            return Faults(self._weaver).find(self._node, value)
        except RecursionError:
            return Misfit.too_deep()
        except Exception as error:  # noqa: BLE001 - of the user's code: a value whose `==` raises, for one
            return Misfit.of(error)


@functools.lru_cache(maxsize=4096)
def _cached(annotation: Any) -> Codec[Any]:
    return Codec(annotation)


def codec_for(annotation: Any) -> Codec[Any]:
    """Return the codec of a type; the same one each time.

    Raises:
        DefinitionError: A part of the type can't be stored; the message says which, and what to do instead.
    """
    try:
        hash(annotation)
    except TypeError:  # an `Annotated` with something in it that can't be a key
        return Codec(annotation)
    return _cached(annotation)


def _in_turn(first: Callable[[Any], Any], second: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    return lambda value: second(first(value))


def _is_loose(node: Node) -> bool:
    """Tell whether a number may be an integer or a float here, so that its notation decides."""
    match node:
        case Anything() | Model():
            return True
        case Choice(members=members):
            kinds = {member.json for member in members} - {Json.NULL}
            return Json.NUMBER in kinds and len(kinds) > 1
        case _:
            return False
