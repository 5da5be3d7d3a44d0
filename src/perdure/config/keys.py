"""The names of settings: in snake_case, PascalCase and the environment, and what a misspelt one may have meant.

Knows no values.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from perdure.config.sections import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DSN", "PREFIX", "TOP_LEVEL", "VARIABLES", "key_named", "pascal", "unknown_key", "unknown_variable"]

DSN: Final = "dsn"
TOP_LEVEL: Final = (DSN, *SECTIONS)

PREFIX: Final = "PERDURE_"
_PATHS: Final = (DSN, *(f"{name}.{key}" for name, section in SECTIONS.items() for key in section.rules()))
VARIABLES: Final = {PREFIX + path.replace(".", "_").upper(): path for path in _PATHS}
"""Each environment variable and the key that it sets."""

_HOME = {key: name for name, section in SECTIONS.items() for key in section.rules()}
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def pascal(key: str) -> str:
    """Write a key as the C# library's JSON does: `batch_size` is `BatchSize`."""
    return "".join(word.capitalize() for word in key.split("_"))


def key_named(written: str, keys: Iterable[str]) -> str | None:
    """Find the key that was written in either spelling."""
    return next((key for key in keys if written in (key, pascal(key))), None)


def unknown_key(written: str, place: str, keys: Iterable[str]) -> str:
    """Say that a key isn't known, which was probably meant, and which there are, in the writer's own spelling."""
    spell = pascal if written[:1].isupper() else str
    allowed = ", ".join(spell(key) for key in keys)
    plain = _WORD_START.sub("_", written).replace("-", "_").lower()
    home = _HOME.get(plain)
    near = get_close_matches(plain, keys, n=1)
    if plain not in keys and home:
        hint = f"; {spell(plain)} is a key of the section {spell(home)}"
    else:
        hint = f"; did you mean {spell(near[0])}?" if near else ""
    return f"{written!r} ({place}): unknown key{hint}; allowed are {allowed}"


def unknown_variable(variable: str) -> str | None:
    """Say what is wrong with a variable that was meant to be one of ours; None of one that is another's business."""
    if variable in VARIABLES or not variable.startswith(PREFIX):
        return None
    rest = variable.removeprefix(PREFIX)
    without_section = get_close_matches(rest.lower(), _HOME, n=1, cutoff=0.85)
    if without_section:
        key = without_section[0]
        return _unknown_variable(variable, [f"{PREFIX}{_HOME[key].upper()}_{key.upper()}"], [])
    section = _section_meant(rest.lower())
    if section is not None:
        start = f"{PREFIX}{section.upper()}_"
        key = rest.partition("_")[2]
        allowed = [name for name in VARIABLES if name.startswith(start)]
        return _unknown_variable(variable, get_close_matches(start + key, allowed, n=1, cutoff=0.8), allowed)
    if get_close_matches(rest, [DSN.upper()], cutoff=0.65):
        return _unknown_variable(variable, [PREFIX + DSN.upper()], [])
    return None


def _section_meant(rest: str) -> str | None:
    first, separator, _ = rest.partition("_")
    near = get_close_matches(first, SECTIONS, n=1, cutoff=0.7) if separator else []
    return near[0] if near else None


def _unknown_variable(variable: str, near: list[str], allowed: list[str]) -> str:
    hint = f"; did you mean {near[0]}?" if near else ""
    listed = f"; allowed are {', '.join(allowed)}" if allowed else ""
    return f"{variable} (environment): unknown variable{hint}{listed}"
