"""Fixtures for bad input: an app whose rows are spoilt, on PostgreSQL 18; nightly on Debian's 15 as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
import pytest_asyncio

from perdure import App
from tests.support.malformed import Spoiler
from tests.support.payloads import define
from tests.support.tiers import TIER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.cluster import Cluster


@pytest.fixture(params=["18", "15"] if TIER == "nightly" else ["18"])
def every_cluster(request: pytest.FixtureRequest) -> Cluster:
    """The PostgreSQL of this tier."""
    found: Cluster = request.getfixturevalue("cluster" if request.param == "18" else "debian_cluster")
    return found


@pytest_asyncio.fixture
async def app(every_migrated_database: str) -> AsyncIterator[App]:
    """An open app with the tasks `busy` and `neighbour`."""
    app = App(
        every_migrated_database, scheduling={"polling_delay": 0.2}, execution={"lease_duration": 2, "concurrency": 20}
    )
    define(app)
    async with app:
        yield app


@pytest_asyncio.fixture
async def spoiler(every_migrated_database: str) -> AsyncIterator[Spoiler]:
    """What writes into rows."""
    async with await psycopg.AsyncConnection.connect(every_migrated_database, autocommit=True) as connection:
        yield Spoiler(connection)
