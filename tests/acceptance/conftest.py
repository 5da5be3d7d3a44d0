"""Fixtures of the tests of the clients' verbs: an app with tasks, and connections beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App
from tests.support.clients import Hands, define

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
async def app(migrated_database: str) -> AsyncIterator[App]:
    """An open app with the tasks of `tests/support/clients.py`."""
    async with App(migrated_database) as app:
        define(app)
        yield app


@pytest.fixture
def task(app: App) -> Any:
    """The first of its tasks."""
    return app.tasks["orders.import"]


@pytest.fixture
async def own(migrated_database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection of the caller's own."""
    async with await psycopg.AsyncConnection.connect(migrated_database) as connection:
        yield connection


@pytest.fixture
def hands(migrated_database: str) -> Iterator[Hands]:
    """What a worker would do, by hand."""
    made = Hands(migrated_database)
    yield made
    made.close()
