"""Each guard of each write: where it isn't met, not one row gets a new version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.store.guard_cases import CASES
from tests.store.guard_checks import CHECKS
from tests.store.guards import Case, check, prepare

if TYPE_CHECKING:
    from tests.store.workbench import Workbench


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_write_is_guarded(bench: Workbench, case: Case) -> None:
    assert check(prepare(bench), case) is None


@pytest.mark.parametrize("write", CHECKS)
def test_a_write_does_what_its_conditions_say_and_no_more(bench: Workbench, write: str) -> None:
    CHECKS[write](bench, bench.names)
