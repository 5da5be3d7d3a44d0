"""Checks and changes of encoded JSON, as bytes: what PostgreSQL couldn't hold, and what jsonb would change."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from perdure.core.codec.misfit import Misfit

__all__ = ["DEEPEST", "NUL", "check_text", "write_out_exponents"]

DEEPEST: Final = 200
"""How deep arrays and objects may be nested: far less than what Python's recursion allows, wherever it is decoded."""

NUL: Final = "a text with the character \\u0000, which PostgreSQL can't hold"

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_MAYBE_EXPONENT: Final = re.compile(rb"\d[eE]\+?\d")
_STRING_OR_EXPONENT: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?[eE]\+?\d+', re.DOTALL)


def check_text(data: bytes) -> None:
    """Refuse what PostgreSQL couldn't hold, or what couldn't be decoded everywhere.

    Raises:
        Misfit: It is that.
    """
    if b"\\u0000" in data and _ESCAPED_NUL.search(data):
        raise Misfit(NUL)
    if data.count(b"[") + data.count(b"{") > DEEPEST:
        _check_depth(data)


def _check_depth(data: bytes) -> None:
    depth = 0
    for token in _TOKEN.finditer(data):
        first = token[0]
        if first in (b"[", b"{"):
            depth += 1
            if depth > DEEPEST:
                raise Misfit.too_deep()
        elif first in (b"]", b"}"):
            depth -= 1


def write_out_exponents(data: bytes) -> bytes:
    """Write `1e300` as digits with `.0` behind them.

    jsonb keeps numbers as decimals: `1e300` comes back as an integer's digits, `….0` as it was. Only needed where a
    number may be either.
    """
    return _STRING_OR_EXPONENT.sub(_write_out, data) if _MAYBE_EXPONENT.search(data) else data


def _write_out(token: re.Match[bytes]) -> bytes:
    text = token[0]
    if text.startswith(b'"'):
        return text
    digits = format(Decimal(text.decode()), "f")
    return (digits if "." in digits else f"{digits}.0").encode()
