"""A server of our own to measure on: default durability, data in a temporary folder that goes with this process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.cluster import TestRun, wheel_binaries

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["server"]

_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "timezone": "UTC",
}


@contextmanager
def server() -> Iterator[str]:
    """Start PostgreSQL, and give the DSN of an empty database."""
    run = TestRun.begin()
    try:
        cluster = run.new_cluster("bench", wheel_binaries(), _SETTINGS)
        yield cluster.socket_dsn(cluster.create_database("bench"))
    finally:
        run.end()
