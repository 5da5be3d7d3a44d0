"""Fixtures of the tests of the original's defects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
async def app(migrated_database: str) -> AsyncIterator[App]:
    app = App(
        migrated_database,
        scheduling={"scheduler_retry_count": 0, "scheduler_retry_delays": [0], "polling_delay": 0.2},
        execution={"shutdown_grace": 0, "cancel_grace": 0.2, "lease_duration": 2},
    )
    async with app:
        yield app


@pytest.fixture
def database(migrated_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        yield connection
