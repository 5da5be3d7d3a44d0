"""Every statement that perdure has is cut somewhere in this folder, or there is a reason why that shows nothing."""

from __future__ import annotations

import ast
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.store.sql import names_of
from tests.faults.network.test_cut_exchanges import OPERATIONS, RESCUES

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALLS = ("test_cut_calls.py", "test_cut_seldom.py")
_FOR_PEOPLE = "only reads, for a command, which people give again"
_MIGRATION = "only reads, in a migration: test_migrate and test_the_commit_of_a_migration cut that where it writes"
_EXCUSED = {
    "get": "it has no text of its own: test_queries cuts it by one that get_many shares",
    "count_live": _FOR_PEOPLE,
    "live_payloads": _FOR_PEOPLE,
    "unread_payloads": _FOR_PEOPLE,
    "workers": _FOR_PEOPLE,
    "doctor_clock": _FOR_PEOPLE,
    "doctor_schema": _FOR_PEOPLE,
    "doctor_server": _FOR_PEOPLE,
    "ledger": _MIGRATION,
    "has_roles": _MIGRATION,
    "rights": _FOR_PEOPLE,
    "notify": "it tells sleeping workers to look, who also look by themselves: faults 16 and 20",
    "notification_room": "only reads, when the queue of notifications is full; the next exchange does it again",
}


def _named(source: str) -> Iterator[str]:
    """Find which statements a file's tests cut: by name, or by the names that a test is parametrised with."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "mark":
                match call.args[0]:
                    case ast.Constant(str(name)):
                        yield name
                    case _:
                        for decorator in function.decorator_list:
                            yield from (
                                part.value
                                for part in ast.walk(decorator)
                                if isinstance(part, ast.Constant) and isinstance(part.value, str)
                            )


def test_every_statement_is_cut_or_excused() -> None:
    files = resources.files("perdure.store").joinpath("queries").iterdir()
    statements = {file.name.removesuffix(".sql") for file in files}
    here = Path(__file__).parent
    named = {name for file in _CALLS for name in _named((here / file).read_text("utf-8"))}
    texts = names_of("background_tasks").statements
    marks = [operation.statement for operation in OPERATIONS.values()]
    named |= {name for name in statements if any(mark in texts[name] for mark in marks)}
    cut = (named | set(RESCUES)) & statements
    assert sorted(statements - cut - set(_EXCUSED)) == []
    assert sorted(cut & set(_EXCUSED)) == []  # no excuse for what is cut
