"""Every condition of every write is needed: without it, a case of `guard_cases.py` or of `guard_checks.py` fails.

Which writes these are, and what holds the others': `test_every_write.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from perdure.store.sql import names_of
from tests.store.fence import fence_function
from tests.store.guard_cases import CASES, WRITES
from tests.store.guard_checks import CHECKS
from tests.store.guards import check, prepare
from tests.store.workbench import SCHEMA, with_statement

if TYPE_CHECKING:
    from perdure.store.sql import Names
    from tests.store.workbench import Workbench

_TOKEN = re.compile(r"[();]|\b(?:where|and|or|then|returning|order by|limit|on|for (?:no key )?update)\b")
_LEASE = "lease_until > clock_timestamp()"
_NO_GUARDS = {
    # Whom a write notifies.
    ("retry", "lapsed_at is null"),
    ("retry", "sleeping"),
    ("proceed", "lapsed_at is null"),
    ("proceed", "sleeping"),
    ("finish", "awaited"),
    ("expire", "awaited"),
    ("wake_unread", "sleeping"),
    ("wake_unread", "lapsed_at is null"),
    ("wake_unread", "(queues is null"),
    ("proceed", "exists ( select from "),
    ("proceed", "(queues is null"),
    ("retry", "(queues is null"),
    ("start_many", "(%(notify)s::boolean or exists"),
    ("start_many", "sleeping"),
    ("start_many", "lapsed_at is null"),
    ("start_many", "(queues is null"),
    # Said by another as well, and here for the index.
    ("claim_suspect", "scheduled_at is not null"),
    # Without which it doesn't end: test_claim.py.
    ("heal_bands", "(queue, priority) > "),
    # What spares look-ups.
    ("release", "released.attempt > 100"),
    # What a write writes.
    ("release", "(%(lapses)s::smallint[])"),
    ("proceed", "not exists (select from proceeded"),
    ("proceed", "asleep"),
    # What else an operator's retry writes and deletes: test_retry.py.
    ("retry", "attempt > 0"),
    ("retry", "job_id = (select"),
    ("retry", "%(execution_metadata)s"),
    ("retry", "not exists (select from"),
    ("retry", "bands."),
    ("release", "not (%(use_proceeds)s"),
    # What a write answers: test_reporting.py.
    ("forgive", "asked.id = any("),
    ("forgive", "not (asked.id = any("),
}


def conditions(text: str) -> list[tuple[int, int]]:
    """Return where each condition behind a `where` or an `and` begins and ends."""
    found: list[tuple[int, int]] = []
    for opening in re.finditer(r"\b(?:where|and)\b", text):
        depth = 0
        end = len(text)
        for token in _TOKEN.finditer(text, opening.end()):
            if token[0] == "(":
                depth += 1
            elif token[0] == ")" and depth:
                depth -= 1
            elif depth == 0:
                end = token.start()
                break
        found.append((opening.end() + 1, end))
    return found


def _text(names: Names, write: str) -> str:
    """Return a write's statement; the fence is a function."""
    return fence_function(names) if write == "fence" else names.statements[write].decode()


def _mutants() -> list[tuple[str, int, str]]:
    found: list[tuple[str, int, str]] = []
    for write in (*WRITES, *CHECKS):
        text = _text(names_of(SCHEMA), write)
        for place, (begin, end) in enumerate(conditions(text)):
            condition = " ".join(text[begin:end].split())
            if not any(write == other and condition.startswith(start) for other, start in _NO_GUARDS):
                found.append((write, place, condition))
    return found


@pytest.mark.parametrize(("write", "place", "condition"), _mutants(), ids=lambda value: str(value)[:70])
def test_a_write_needs_its_condition(bench: Workbench, write: str, place: int, condition: str) -> None:
    text = _text(bench.names, write)
    begin, end = conditions(text)[place]
    assert _is_noticed(bench, write, f"{text[:begin]} true {text[end:]}"), (
        f"no case or check notices that {write}.sql has lost the condition {condition!r}"
    )


@pytest.mark.parametrize("write", [write for write in (*WRITES, *CHECKS) if _LEASE in _text(names_of(SCHEMA), write)])
def test_a_write_asks_for_its_lease_by_the_present_time(bench: Workbench, write: str) -> None:
    text = _text(bench.names, write)
    assert _is_noticed(bench, write, text.replace(_LEASE, "lease_until > now()")), (
        f"no case or check notices that {write}.sql asks for the lease as of its transaction's beginning"
    )


def _is_noticed(bench: Workbench, write: str, mutant: str) -> bool:
    if write in CHECKS:
        try:
            CHECKS[write](bench, with_statement(bench.names, write, mutant.encode()))
        except AssertionError:
            return True
        return False
    if write != "fence":
        changed = with_statement(bench.names, write, mutant.encode())
        return any(check(prepare(bench, changed), case) for case in CASES if case.write == write)
    bench.connection.execute(mutant.encode())
    try:
        return any(check(prepare(bench), case) for case in CASES if case.write == write)
    finally:
        bench.connection.execute(fence_function(bench.names).encode())
