"""Fixtures of the tests of state machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from perdure import App

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture
async def app(migrated_database: str) -> AsyncIterator[App]:
    app = App(
        migrated_database,
        scheduling={"scheduler_retry_count": 0, "scheduler_retry_delays": [0], "polling_delay": 0.2},
        execution={"shutdown_grace": 0.2, "cancel_grace": 0.2},
    )
    async with app:
        yield app
