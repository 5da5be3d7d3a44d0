"""How messages show a value that was given: in a line, bounded, whatever its `repr` does."""

from __future__ import annotations

from typing import Final

__all__ = ["shorten"]

_LONGEST: Final = 80


def shorten(value: object) -> str:
    """Show a value in a message."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a repr may do anything
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
