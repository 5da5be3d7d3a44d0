"""Arrays as PostgreSQL's binary format, each made by one `struct.pack`; and payloads read as they are.

psycopg's own list dumper looks at every element in Python; on the worker's hot path that costs more than the
statement. The format: PostgreSQL's `array_send` in src/backend/utils/adt/arrayfuncs.c (dimensions, has-null flag,
element type, length, lower bound, then length and bytes of each element).

Texts and payloads are UTF-8 on our side, whatever encoding a connection of the user's has.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import BaseConnection
    from psycopg.abc import AdaptContext, Buffer
    from psycopg.adapt import AdaptersMap

__all__ = [
    "Packed",
    "booleans",
    "float8s",
    "int2s",
    "int4s",
    "int8s",
    "jsonbs",
    "jsons",
    "read_time",
    "register",
    "texts",
    "times",
]

_HEADER = struct.Struct(">iiIii").pack
_LENGTH = struct.Struct(">i").pack
_SHORT = 4096
_LENGTHS = [_LENGTH(length) for length in range(_SHORT)]
_NULL = _LENGTH(-1)
_BOOL, _INT8, _INT2, _INT4, _FLOAT8, _TIMESTAMPTZ = 16, 20, 21, 23, 701, 1184
_DOUBLE, _LONG = struct.Struct(">d").pack, struct.Struct(">q").pack
_UTF8 = "utf-8"
_MICROSECONDS = struct.Struct(">q").unpack
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # of PostgreSQL's times
_MICROSECOND = timedelta(microseconds=1)
# A day from the ends, so that every time zone can show them.
_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


class Packed:
    """An array to be sent in binary format; the subclass says of what type."""

    __slots__ = ()

    def pack(self, connection: BaseConnection[Any] | None) -> bytes:
        """Return the array's bytes, as this connection wants them."""
        raise NotImplementedError


class _Numbers(Packed):
    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def pack(self, connection: BaseConnection[Any] | None) -> bytes:  # noqa: ARG002 - to all the same
        return self._data


class _Booleans(_Numbers):
    __slots__ = ()


class _Int2s(_Numbers):
    __slots__ = ()


class _Int4s(_Numbers):
    __slots__ = ()


class _Int8s(_Numbers):
    __slots__ = ()


class _Float8s(_Numbers):
    __slots__ = ()


class _Times(_Numbers):
    __slots__ = ()


class _Blobs(Packed):
    __slots__ = ("_values",)
    element_oid: ClassVar[int]
    prefix: ClassVar[bytes] = b""

    def __init__(self, values: Sequence[bytes | None]) -> None:
        self._values = values

    def pack(self, connection: BaseConnection[Any] | None) -> bytes:
        values, encoding = self._values, _encoding(connection)
        if encoding != _UTF8:
            values = [None if value is None else value.decode().encode(encoding) for value in values]
        return _joined(self.element_oid, values, self.prefix)


class _Texts(_Blobs):
    __slots__ = ()
    element_oid = 25


class _Jsons(_Blobs):
    __slots__ = ()
    element_oid = 114


class _Jsonbs(_Blobs):
    __slots__ = ()
    element_oid = 3802
    prefix = b"\x01"  # the version of the format


def _fixed(element_oid: int, code: str, size: int, values: Sequence[int]) -> bytes:
    flat = [size] * (2 * len(values))
    flat[1::2] = values
    return _HEADER(1, 0, element_oid, len(values), 1) + struct.pack(">" + ("i" + code) * len(values), *flat)


def _joined(element_oid: int, values: Sequence[bytes | None], prefix: bytes = b"") -> bytes:
    extra = len(prefix)
    parts = [_HEADER(1, 1, element_oid, len(values), 1)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += _length(len(value) + extra), prefix, value
    return b"".join(parts)


def booleans(values: Sequence[bool]) -> Packed:
    """Pack a `boolean[]`."""
    return _Booleans(_fixed(_BOOL, "?", 1, values))


def float8s(values: Sequence[float | None]) -> Packed:
    """Pack a `float8[]`."""
    return _Float8s(_joined(_FLOAT8, [None if value is None else _DOUBLE(value) for value in values]))


def int2s(values: Sequence[int]) -> Packed:
    """Pack a `smallint[]`."""
    return _Int2s(_fixed(_INT2, "h", 2, values))


def int4s(values: Sequence[int]) -> Packed:
    """Pack an `int[]`."""
    return _Int4s(_fixed(_INT4, "i", 4, values))


def int8s(values: Sequence[int]) -> Packed:
    """Pack a `bigint[]`."""
    return _Int8s(_fixed(_INT8, "q", 8, values))


def times(values: Sequence[datetime | None]) -> Packed:
    """Pack a `timestamptz[]`."""
    return _Times(
        _joined(_TIMESTAMPTZ, [None if value is None else _LONG((value - _EPOCH) // _MICROSECOND) for value in values])
    )


def _length(length: int) -> bytes:
    return _LENGTHS[length] if length < _SHORT else _LENGTH(length)


def texts(values: Sequence[bytes | None]) -> Packed:
    """Pack a `text[]` of UTF-8 texts and nulls."""
    return _Texts(values)


def jsons(values: Sequence[bytes | None]) -> Packed:
    """Pack a `json[]` of encoded payloads and nulls."""
    return _Jsons(values)


def jsonbs(values: Sequence[bytes | None]) -> Packed:
    """Pack a `jsonb[]` of encoded payloads and nulls."""
    return _Jsonbs(values)


def _encoding(connection: BaseConnection[Any] | None) -> str:
    return connection.info.encoding if connection else _UTF8


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Packed) -> bytes:
        return obj.pack(self.connection)


def _dumper(array_oid: int) -> type[Dumper]:
    return type("PackedDumper", (_PackedDumper,), {"oid": array_oid})


class _RawLoader(Loader):
    """A json value as the server has it, in UTF-8."""

    format = Format.TEXT
    begin: ClassVar[int] = 0

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self._encoding = _encoding(self.connection)

    def load(self, data: Buffer) -> bytes:
        payload = bytes(data[self.begin :])
        return payload if self._encoding == _UTF8 else payload.decode(self._encoding).encode()


class _RawBinaryLoader(_RawLoader):
    format = Format.BINARY


class _RawJsonbLoader(_RawLoader):
    format = Format.BINARY
    begin = 1  # behind the version byte


class _TimeLoader(Loader):
    """A time as `read_time` has it."""

    format = Format.BINARY

    def load(self, data: Buffer) -> datetime:
        return read_time(data)


def read_time(data: Buffer) -> datetime:
    """Read a `timestamptz`, in UTC; one that Python can't hold (`infinity`, the year 10000) as the nearest that it can.

    So a row that somebody has written by hand doesn't make the others of its page unreadable.
    """
    microseconds = _MICROSECONDS(data)[0]
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return _EARLIEST if microseconds < 0 else _LATEST


_DUMPERS = (
    (_Booleans, _dumper(1000)),
    (_Int8s, _dumper(1016)),
    (_Int2s, _dumper(1005)),
    (_Int4s, _dumper(1007)),
    (_Float8s, _dumper(1022)),
    (_Times, _dumper(1185)),
    (_Texts, _dumper(1009)),
    (_Jsons, _dumper(199)),
    (_Jsonbs, _dumper(3807)),
)


def register(context: AdaptContext) -> None:
    """Teach one cursor (or a connection of our own, never one that users see) how we write and read."""
    adapters: AdaptersMap = context.adapters
    for kind, dumper in _DUMPERS:
        adapters.register_dumper(kind, dumper)
    adapters.register_loader("json", _RawLoader)
    adapters.register_loader("json", _RawBinaryLoader)
    adapters.register_loader("jsonb", _RawLoader)
    adapters.register_loader("jsonb", _RawJsonbLoader)
    adapters.register_loader("timestamptz", _TimeLoader)
