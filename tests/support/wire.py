"""PostgreSQL's messages on the wire, as far as a proxy has to know them: where each ends, and which statement it runs.

Of a connection without encryption. What is in a message beside that is nobody's business here.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asyncio import StreamReader

__all__ = ["CANCEL_REQUEST", "Frame", "Statements", "application_name", "read_frame", "read_startup", "request_code"]

CANCEL_REQUEST = 80877102
_LENGTH = struct.Struct("!I")


class Frame(NamedTuple):
    """A message: its kind (`Q`, `P`, `B`, `E`, `S` from clients; `C`, `Z` from servers), and all of its bytes."""

    kind: bytes
    data: bytes

    def answer(self) -> str | None:
        """What a server says of a statement: the tag of one that is done, the SQLSTATE of one that is refused."""
        body = self.data[5:]
        if self.kind == b"C":
            return body.rstrip(b"\0").decode()
        if self.kind == b"E":
            return next(field[1:].decode() for field in body.split(b"\0") if field.startswith(b"C"))
        return None


async def read_frame(reader: StreamReader) -> Frame:
    """Read a message.

    Raises:
        asyncio.IncompleteReadError: The connection has ended.
    """
    head = await reader.readexactly(5)
    (length,) = _LENGTH.unpack_from(head, 1)
    return Frame(head[:1], head + await reader.readexactly(length - 4))


async def read_startup(reader: StreamReader) -> bytes:
    """Read a client's first message, which has no kind."""
    head = await reader.readexactly(4)
    return head + await reader.readexactly(_LENGTH.unpack(head)[0] - 4)


def request_code(startup: bytes) -> int:
    """Return what a first message asks for: a version of the protocol, or `CANCEL_REQUEST`."""
    code: int = _LENGTH.unpack_from(startup, 4)[0]
    return code


def application_name(startup: bytes) -> str:
    """Return who connects, by its own account."""
    texts = startup[8:].split(b"\0")
    given = dict(zip(texts[::2], texts[1::2], strict=False))
    return given.get(b"application_name", b"").decode()


class Statements:
    """What a client has prepared and bound on one connection."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._prepared: dict[bytes, bytes] = {}
        self._bound: dict[bytes, bytes] = {}

    def run_by(self, frame: Frame) -> bytes | None:
        """Take note of a client's message; return the statement that it has the server run, if it does."""
        body = frame.data[5:]
        match frame.kind:
            case b"Q":
                return body.rstrip(b"\0")
            case b"P":
                name, statement, _ = body.split(b"\0", 2)
                self._prepared[name] = statement
            case b"B":
                portal, name, _ = body.split(b"\0", 2)
                self._bound[portal] = self._prepared.get(name, b"")
            case b"E":
                return self._bound.get(body.split(b"\0", 1)[0], b"")
            case _:
                pass
        return None
