"""Arrays as PostgreSQL's binary format, each made by one `struct.pack`; and payloads read as they are.

psycopg's own list dumper looks at every element in Python; on the worker's hot path that costs more than the
statement. The format: PostgreSQL's `array_send` in src/backend/utils/adt/arrayfuncs.c (dimensions, has-null flag,
element type, length, lower bound, then length and bytes of each element).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, ClassVar

from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg.abc import AdaptContext, Buffer
    from psycopg.adapt import AdaptersMap

__all__ = [
    "Packed",
    "booleans",
    "int2s",
    "int4s",
    "int8s",
    "jsonbs",
    "jsons",
    "register",
    "texts",
]

_HEADER = struct.Struct(">iiIii").pack
_LENGTH = struct.Struct(">i").pack
_SHORT = 4096
_LENGTHS = [_LENGTH(length) for length in range(_SHORT)]
_NULL = _LENGTH(-1)
_JSONB_VERSION = b"\x01"
_BOOL, _INT8, _INT2, _INT4, _TEXT, _JSON, _JSONB = 16, 20, 21, 23, 25, 114, 3802


class Packed:
    """An array in binary format; the subclass says of what type."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        """Wrap an array's bytes."""
        self.data = data


class _Booleans(Packed):
    __slots__ = ()


class _Int2s(Packed):
    __slots__ = ()


class _Int4s(Packed):
    __slots__ = ()


class _Int8s(Packed):
    __slots__ = ()


class _Texts(Packed):
    __slots__ = ()


class _Jsons(Packed):
    __slots__ = ()


class _Jsonbs(Packed):
    __slots__ = ()


def _fixed(element_oid: int, code: str, size: int, values: Sequence[int]) -> bytes:
    flat = [size] * (2 * len(values))
    flat[1::2] = values
    return _HEADER(1, 0, element_oid, len(values), 1) + struct.pack(">" + ("i" + code) * len(values), *flat)


def booleans(values: Sequence[bool]) -> Packed:
    """Pack a `boolean[]`."""
    return _Booleans(_fixed(_BOOL, "?", 1, values))


def int2s(values: Sequence[int]) -> Packed:
    """Pack a `smallint[]`."""
    return _Int2s(_fixed(_INT2, "h", 2, values))


def int4s(values: Sequence[int]) -> Packed:
    """Pack an `int[]`."""
    return _Int4s(_fixed(_INT4, "i", 4, values))


def int8s(values: Sequence[int]) -> Packed:
    """Pack a `bigint[]`."""
    return _Int8s(_fixed(_INT8, "q", 8, values))


def _length(length: int) -> bytes:
    return _LENGTHS[length] if length < _SHORT else _LENGTH(length)


def _blobs(element_oid: int, prefix: bytes, values: Sequence[bytes | None]) -> bytes:
    parts = [_HEADER(1, 1, element_oid, len(values), 1)]
    extra = len(prefix)
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += _length(len(value) + extra), prefix, value
    return b"".join(parts)


def texts(values: Sequence[bytes | None]) -> Packed:
    """Pack a `text[]` of UTF-8 texts and nulls."""
    return _Texts(_blobs(_TEXT, b"", values))


def jsons(values: Sequence[bytes | None]) -> Packed:
    """Pack a `json[]` of encoded payloads and nulls."""
    return _Jsons(_blobs(_JSON, b"", values))


def jsonbs(values: Sequence[bytes | None]) -> Packed:
    """Pack a `jsonb[]` of encoded payloads and nulls."""
    return _Jsonbs(_blobs(_JSONB, _JSONB_VERSION, values))


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Packed) -> bytes:
        return obj.data


def _dumper(array_oid: int) -> type[Dumper]:
    return type("PackedDumper", (_PackedDumper,), {"oid": array_oid})


class _RawLoader(Loader):
    """A json value as the server sent it."""

    format: ClassVar[Format] = Format.TEXT

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


class _RawBinaryLoader(_RawLoader):
    format = Format.BINARY


class _RawJsonbLoader(Loader):
    """A jsonb value without the version byte before it."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data[1:])


_DUMPERS = (
    (_Booleans, _dumper(1000)),
    (_Int8s, _dumper(1016)),
    (_Int2s, _dumper(1005)),
    (_Int4s, _dumper(1007)),
    (_Texts, _dumper(1009)),
    (_Jsons, _dumper(199)),
    (_Jsonbs, _dumper(3807)),
)


def register(context: AdaptContext) -> None:
    """Teach one cursor (or a connection of our own, never one that users see) packed arrays and raw payloads."""
    adapters: AdaptersMap = context.adapters
    for kind, dumper in _DUMPERS:
        adapters.register_dumper(kind, dumper)
    adapters.register_loader("json", _RawLoader)
    adapters.register_loader("json", _RawBinaryLoader)
    adapters.register_loader("jsonb", _RawLoader)
    adapters.register_loader("jsonb", _RawJsonbLoader)
