"""Fixtures of the store's tests: one database for a module, emptied before each test (cloning one takes longer)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.store.workbench import Workbench
from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cluster import Cluster


@pytest.fixture(scope="module")
def store_dsn(cluster: Cluster) -> Iterator[str]:
    """A migrated database on PostgreSQL 18."""
    with _database(cluster) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def old_store_dsn(debian_cluster: Cluster) -> Iterator[str]:
    """A migrated database on PostgreSQL 15."""
    with _database(debian_cluster) as dsn:
        yield dsn


@pytest.fixture
def bench(store_dsn: str) -> Iterator[Workbench]:
    """An empty schema on PostgreSQL 18."""
    with Workbench(store_dsn) as made:
        made.clear()
        yield made


@pytest.fixture(params=["18", "15"])
def every_bench(request: pytest.FixtureRequest) -> Iterator[Workbench]:
    """An empty schema on each PostgreSQL that the tests know."""
    with Workbench(request.getfixturevalue("store_dsn" if request.param == "18" else "old_store_dsn")) as made:
        made.clear()
        yield made


@contextmanager
def _database(cluster: Cluster) -> Iterator[str]:
    name = cluster.create_database(template=cluster.template("migrated", migrate_database))
    yield cluster.dsn(name)
    cluster.drop_database(name)
