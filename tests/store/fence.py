"""The fence's statement, which is inside of a function of the schema: to be looked at, and to be spoiled."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from perdure.store.migrate import migrations

if TYPE_CHECKING:
    from perdure.store.sql import Names

__all__ = ["fence_function", "fence_statement"]

_PARAMETERS = {
    "job": "%(id)s::bigint",
    "holder": "%(worker)s::uuid",
    "token": "%(claim)s::int",
    "predecessor": "%(checkpoint)s::int",
    "data": "%(execution_metadata)s::jsonb",
}


def fence_function(names: Names) -> str:
    """Return the definition of the function, to be run again with a change."""
    text = names.statements.fill(migrations()[0].text, parametrised=False)
    begin = text.index("function", text.rindex("create function", 0, text.index(".fence(")))
    return "create or replace " + text[begin : text.index("$$;", begin) + 3]


def fence_statement(names: Names) -> str:
    """Return its update as the other statements are: with parameters, and with the schema's name."""
    function = fence_function(names)
    update = function[function.index("update jobs") : function.index(";", function.index("update jobs"))]
    schema = names.statements.fill("{schema}", parametrised=True)
    update = re.sub(r"\b(update|from) (jobs|workers)\b", rf"\1 {schema}.\2", update)
    update = update.replace("timeline()", f"{schema}.timeline()")
    return re.sub(rf"\b({'|'.join(_PARAMETERS)})\b(?!\.)", lambda match: _PARAMETERS[match[1]], update)
