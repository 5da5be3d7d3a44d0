"""A run's seed decides all that its faults draw, and can be given again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_SHOW = "from tests.support.tiers import seeds; print(seeds('a', push=2, nightly=4), seeds('b', push=2, nightly=4))"


def _seeds(**environment: str) -> str:
    shown = subprocess.run(
        [sys.executable, "-c", _SHOW], env=environment, cwd=_ROOT, check=False, capture_output=True, text=True
    )
    return shown.stdout or shown.stderr


def test_a_seed_repeats_what_was_drawn_and_another_doesnt() -> None:
    first = _seeds(PERDURE_TEST_SEED="417")
    assert first == _seeds(PERDURE_TEST_SEED="417")
    assert first != _seeds(PERDURE_TEST_SEED="418")
    of_a, of_b = first.strip().split("] [")
    assert of_a.lstrip("[") != of_b.rstrip("]")


def test_a_tier_that_there_isnt_is_refused() -> None:
    assert "PERDURE_TEST_TIER is 'weekly'; it can be push or nightly" in _seeds(PERDURE_TEST_TIER="weekly")
