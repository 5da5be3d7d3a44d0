"""Which statement is which, on its way: a text that no other has, whatever stands for its parameters."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from perdure.store.sql import names_of

__all__ = ["mark"]

_PLACE = re.compile(rb"%\(\w+\)s")


@cache
def mark(statement: str, schema_name: str = "background_tasks") -> bytes:
    """Return the longest text of `queries/<statement>.sql` that is in no other.

    Raises:
        ValueError: There is none.
    """
    names = names_of(schema_name)
    files = resources.files("perdure.store").joinpath("queries").iterdir()
    others = [names.statements[name] for file in files if (name := file.name.removesuffix(".sql")) != statement]
    parts = sorted(_PLACE.split(names.statements[statement]), key=len, reverse=True)
    for part in parts:
        if part and not any(part in other for other in others):
            return part
    message = f"{statement}.sql has no text of its own"
    raise ValueError(message)
