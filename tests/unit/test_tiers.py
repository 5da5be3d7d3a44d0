"""A run's seed decides all that its faults draw, and can be given again."""

from __future__ import annotations

import re
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


def test_a_push_draws_some_cases_and_the_other_tiers_try_all() -> None:
    show = "from tests.support.tiers import drawn; print(drawn('a', 'abcdefgh', push=3))"
    shown = [
        subprocess.run(
            [sys.executable, "-c", show], env=tier, cwd=_ROOT, check=True, capture_output=True, text=True
        ).stdout
        for tier in ({"PERDURE_TEST_SEED": "417"}, {"PERDURE_TEST_TIER": "nightly"})
    ]
    some, every = (re.findall(r"\w", text) for text in shown)
    assert every == list("abcdefgh")
    assert len(some) == 3
    assert some == [case for case in every if case in some]
