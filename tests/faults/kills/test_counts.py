"""The checker of counts is checked: a life that is counted right, and lives that aren't."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import JobState
from tests.faults.kills.counts import miscounted
from tests.support.history.values import Image, Move

_KILLED, _FROZEN, _SLOW = "killed", "frozen", "slow"
_GONE = {_KILLED: True, _FROZEN: False}
_FRESH = Image(
    *(0, 0.0, 0, "test", False, True, 1, "persist", JobState.PENDING, 0, 0, 0, None, 0, 0, 0),
    *(False, False, False, False, 0, 0.0, {}, None, None),
)
_CLAIMED: dict[str, Any] = {"state": JobState.RUNNING, "worker": _KILLED, "attempt": 1}
_LOST: dict[str, Any] = {"state": JobState.PENDING, "worker": None, "rescued": True}
_FORGIVEN: dict[str, Any] = {"lapses": 0, "rescued": False}
_RAISED: dict[str, Any] = {"state": JobState.RETRYING, "worker": None}
_BACK: dict[str, Any] = {"state": JobState.PENDING, "worker": None, "attempt": 0}
_PUT_BACK = _BACK | {"attempt": 1, "rescued": False}
_COMPLETED: dict[str, Any] = {"state": JobState.COMPLETED, "live": False, "lapses": 0, "scheduler_retries": 0}
_AGAIN = _CLAIMED | {"rescued": False, "attempt": 2}


def _found(*changes: dict[str, Any], **first: Any) -> list[str]:
    image, moves = _FRESH._replace(**first), list[Move]()
    for change in changes:
        following = image._replace(**change)
        moves.append(Move(image, following))
        image = following
    return list(miscounted(moves, _GONE))


@pytest.mark.parametrize(
    "life",
    [
        [_CLAIMED, _COMPLETED],
        [_CLAIMED, _LOST | {"lapses": 1}, _AGAIN, _LOST | {"lapses": 2}, _AGAIN, _COMPLETED],
        [_CLAIMED, _LOST | {"lapses": 1}, _AGAIN, {"checkpoint": 1}, _LOST | {"lapses": 0}],
        [_CLAIMED, {"checkpoint": 2}, _LOST | {"lapses": 1}],  # a COMMIT's number was taken
        [_CLAIMED | {"worker": _FROZEN}, _LOST | {"lapses": 1}, _AGAIN, _FORGIVEN],
        [_CLAIMED | {"worker": _FROZEN}, _LOST | {"lapses": 1}, _AGAIN, _PUT_BACK, _AGAIN, _FORGIVEN],
        [_CLAIMED | {"worker": _SLOW}, _LOST],
        [_CLAIMED, _LOST | {"lapses": 1}, _AGAIN, _BACK | {"attempt": 1}],
    ],
)
def test_what_is_counted_right_is_passed(life: list[dict[str, Any]]) -> None:
    assert _found(*life) == []


@pytest.mark.parametrize(
    "life",
    [
        [_CLAIMED, _LOST],  # not counted
        [_CLAIMED, _LOST | {"lapses": 2}],
        [_CLAIMED | {"worker": _FROZEN}, _LOST],
        [_CLAIMED, {"checkpoint": 1}, _LOST | {"lapses": 1}],  # it had persisted
        [_CLAIMED, _LOST | {"lapses": 1}, _AGAIN, {"checkpoint": 1}, _LOST | {"lapses": 1}],  # progress isn't afresh
        [_CLAIMED, _LOST | {"lapses": 1}, _AGAIN, _FORGIVEN],  # of one that never came back
        [
            _CLAIMED | {"worker": _FROZEN},
            _LOST | {"lapses": 1},
            _AGAIN,
            _PUT_BACK | {"lapses": 0},
            _AGAIN | {"lapses": 1},
            _FORGIVEN,
        ],
        [_CLAIMED | {"worker": _FROZEN}, _LOST | {"lapses": 1}, _AGAIN | {"lapses": 2}],
        [_CLAIMED | {"worker": _FROZEN}, _LOST | {"lapses": 1}, _FORGIVEN, {"lapses": 1}],
        [_CLAIMED, _LOST | {"lapses": 1, "scheduler_retries": 1}],
        [_CLAIMED, _LOST | {"lapses": 1}, _AGAIN, _BACK | {"checkpoint": 1, "rescued": False}],  # a stop keeps them
        [_CLAIMED, _RAISED | {"scheduler_retries": 1}],  # none of this kind is retried
        [_CLAIMED, _BACK | {"retry_number": 1}],
        [_CLAIMED, _COMPLETED | {"retry_number": 1}],
    ],
)
def test_what_is_counted_wrongly_is_found(life: list[dict[str, Any]]) -> None:
    assert _found(*life)


@pytest.mark.parametrize(
    ("task", "had", "spent", "is_right"),
    [
        ("retries", (0, 0), (0, 1), True),
        ("retries", (0, 1), (1, 0), True),
        ("retries", (0, 1), (0, 2), False),
        ("retries", (0, 0), (0, 0), False),
        ("fails", (0, 0), (1, 0), True),
        ("fails", (0, 0), (0, 1), False),
    ],
)
def test_what_spends_retries_spends_one(
    task: str, had: tuple[int, int], spent: tuple[int, int], *, is_right: bool
) -> None:
    before, after = ({"retry_number": first, "scheduler_retries": second} for first, second in (had, spent))
    assert (_found(_CLAIMED, _RAISED | after, task=task, **before) == []) is is_right


def test_a_suspension_starts_all_counts_afresh() -> None:
    suspended = {"state": JobState.SUSPENDED, "worker": None}
    spent = {"retry_number": 1, "scheduler_retries": 1, "lapses": 1}
    assert _found(_CLAIMED, suspended | dict.fromkeys(spent, 0), task="suspend", **spent) == []
    assert _found(_CLAIMED, suspended, task="suspend", **spent)
