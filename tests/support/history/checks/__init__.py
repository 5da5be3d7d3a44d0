"""The invariants, each a pure function of a history that answers with what is wrong in it, in words.

Not here, for what they are about isn't built yet: I2's unique keys, I7 (concurrency limits), I11 (ticks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.history.checks import counts, delays, ends, requests, waits, writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.support.history.values import History

__all__ = ["CHECKS", "violations"]

CHECKS: Mapping[str, Sequence[Callable[[History], Iterator[str]]]] = {
    "I1": [ends.nothing_is_lost],
    "I2": [ends.nothing_is_made_up],
    "I3": [ends.one_end_a_job, requests.cancels_hold],
    "I4": [writes.only_the_holder_writes],
    "I5": [writes.checkpoints_go_on, writes.rows_commit_with_checkpoints, writes.steps_once],
    "I6": [writes.effects_outside],
    "I8": [waits.nothing_is_stuck, delays.recovery_is_quick, delays.due_jobs_are_claimed, waits.results_come],
    "I9": [counts.all_is_counted],
    "I10": [waits.events_are_used_once, waits.events_keep_their_order, requests.proceeds_are_kept],
    "I12": [waits.neighbours_are_unharmed],
    "I13": [waits.nothing_is_left],
}
"""What is checked, by the invariant's name."""


def violations(history: History) -> list[str]:
    """Check all; return what is wrong, each with the invariant that it breaks."""
    return [f"{name}: {wrong}" for name, checks in CHECKS.items() for check in checks for wrong in check(history)]
