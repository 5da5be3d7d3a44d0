"""Fixtures for the attacks: scenarios on a database of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.processes import Processes


@pytest.fixture
def new_scenario(migrated_database: str, processes: Processes, tmp_path: Path) -> Callable[..., Scenario]:
    """Make the scenario of a seed: `new_scenario(seed, workers=…, seconds=…)`, once in a test."""

    def make(seed: int, **options: Any) -> Scenario:
        return Scenario(migrated_database, tmp_path, processes, seed=seed, **options)

    return make
