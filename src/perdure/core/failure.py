"""How an error is stored: either what was raised, or what the task declares; and the JSON of both.

Does not know the tasks' error types: a declared error goes in and out as encoded JSON.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["DECLARED", "RAISED", "Raised", "encode_declared", "encode_raised", "split"]

RAISED: Final = "raised"
DECLARED: Final = "error"


class Raised(msgspec.Struct, frozen=True):
    """An exception that ended an attempt, as it is stored.

    Attributes:
        type: The exception's class, with its module when it isn't a built-in.
        message: What `str()` made of it.
        traceback: The formatted traceback, bounded; empty where there was none.
    """

    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        """Return the type and the message, as the last line of a traceback shows them."""
        return f"{self.type}: {self.message}" if self.message else self.type


class _Stored(msgspec.Struct):
    # Empty where the key is missing: a declared error may well be null.
    raised: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Stored).decode
_decode_raised = msgspec.json.Decoder(Raised).decode


def encode_raised(raised: Raised) -> bytes:
    """Return what the column holds for an exception."""
    return b'{"raised":' + _encode(raised) + b"}"


def encode_declared(payload: bytes) -> bytes:
    """Return what the column holds for an error of the task's own type, already encoded."""
    return b'{"error":' + payload + b"}"


def split(data: bytes) -> Raised | bytes:
    """Tell the two apart: an exception as it was stored, or the encoded error of the task's own type.

    Raises:
        msgspec.MsgspecError: The column holds neither.
    """
    stored = _decode(data)
    if bytes(stored.raised):
        return _decode_raised(stored.raised)
    if bytes(stored.error):
        return bytes(stored.error)
    message = "neither a raised nor a declared error"
    raise msgspec.ValidationError(message)
