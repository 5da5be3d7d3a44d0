"""What waits at the desk: how much of it goes into one exchange, and what goes first."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["DESK"]

_DESK = "tests/worker/test_desk.py::"

DESK = (
    Mutant(
        "errors that take no room in a batch",
        "a batch of large ones is more than PostgreSQL takes for a message, and breaks its connection each time",
        "worker/batch.py",
        "            if entry.error is not None:\n                room -= len(entry.error)\n",
        "",
        (f"{_DESK}test_a_batch_is_as_large_as_all_that_its_outcomes_carry",),
    ),
)
