"""Fixtures: a workbench on each PostgreSQL; one database for a module, emptied by each example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.store.workbench import Workbench
from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cluster import Cluster


@pytest.fixture(scope="module")
def bench(cluster: Cluster) -> Iterator[Workbench]:
    """A workbench on PostgreSQL 18."""
    yield from _bench(cluster)


@pytest.fixture(scope="module")
def old_bench(debian_cluster: Cluster) -> Iterator[Workbench]:
    """A workbench on PostgreSQL 15."""
    yield from _bench(debian_cluster)


def _bench(cluster: Cluster) -> Iterator[Workbench]:
    name = cluster.create_database(template=cluster.template("migrated", migrate_database))
    with Workbench(cluster.dsn(name)) as made:
        yield made
    cluster.drop_database(name)
