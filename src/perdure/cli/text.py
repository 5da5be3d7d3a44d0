"""Other people's text, made safe to print: what a terminal would take for a command is shown as an escape.

Payloads, errors and names come from anywhere. Knows no colours and no tables.
"""

from __future__ import annotations

import json
import re
from typing import Final

__all__ = ["json_text", "printable"]

# Controls (C0, C1), the marks that turn the direction of writing, invisible characters, separators of lines, and
# halves of surrogate pairs, which no encoding can write.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


def printable(text: str, *, keep: str = "") -> str:
    r"""Escape what doesn't print, as Python would write it: `\x1b`, `\n`.

    Args:
        text: The text.
        keep: Characters to leave as they are.
    """
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else repr(found[0])[1:-1], text)


def json_text(value: object, *, indent: int | None = 2) -> str:
    """Write a value as JSON that is safe on a terminal, and the same value to a program."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    # What is left unescaped by `dumps` can only be inside of strings, where an escape means the same character.
    return _UNSAFE.sub(lambda found: found[0] if found[0] == "\n" else json.dumps(found[0])[1:-1], text)
