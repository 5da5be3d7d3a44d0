"""The mutants are mutants still: what each changes is there once, and so are the tests that must notice."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.mutants.listed import MUTANTS
from tests.mutants.mutant import Edit, Mutant
from tests.mutants.trial import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_no_mutant_is_rotten(mutant: Mutant) -> None:
    assert mutant.rotten(ROOT) == []


def test_each_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(mutant.name for mutant in MUTANTS).items() if count > 1] == []


def test_one_that_has_rotted_says_why() -> None:
    test = "tests/unit/test_mutants.py::test_no_mutant_is_rotten[a case]"
    rotten = Mutant(
        "rotten",
        "nothing",
        "errors.py",
        "nowhere in it",
        "anything",
        (test, "tests/unit/test_mutants.py::test_that_there_is_not", "tests/unit/test_nowhere.py::test_it"),
        more=(Edit("nowhere.py", "a", "b"), Edit("version.py", "_", "-"), Edit("version.py", "0.1", "0.1")),
    )
    assert rotten.rotten(ROOT) == [
        "errors.py has 0 times, not once: 'nowhere in it'",
        "there is no nowhere.py",
        "version.py has 4 times, not once: '_'",
        "it changes nothing in version.py",
        "tests/unit/test_mutants.py has no test_that_there_is_not",
        "there is no tests/unit/test_nowhere.py",
    ]
