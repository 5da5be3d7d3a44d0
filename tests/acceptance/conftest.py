"""Fixtures of the tests of the clients' verbs that stand in files of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.clients import Hands

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hands(migrated_database: str) -> Iterator[Hands]:
    """What a worker would do, by hand."""
    made = Hands(migrated_database)
    yield made
    made.close()
