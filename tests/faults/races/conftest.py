"""Fixtures: a database for a module, and a stage in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cluster import Cluster


@pytest.fixture(scope="module")
def race_dsn(cluster: Cluster) -> Iterator[str]:
    """A migrated database."""
    name = cluster.create_database(template=cluster.template("migrated", migrate_database))
    yield cluster.dsn(name)
    cluster.drop_database(name)
