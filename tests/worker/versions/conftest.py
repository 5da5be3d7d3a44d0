"""Fixtures of the tests of versions: apps on one database, looks at rows, and workers of a version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from perdure import App
from tests.worker.versions.definitions import EXECUTION, SCHEDULING, Rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.support.processes import Process, Processes


SCRIPT = str(Path(__file__).with_name("versions_app.py"))


@pytest.fixture
def rows(migrated_database: str) -> Iterator[Rows]:
    made = Rows(migrated_database)
    yield made
    made.connection.close()


@pytest_asyncio.fixture
async def make_app(migrated_database: str) -> AsyncIterator[Callable[[], App]]:
    """Make apps of their own on one database, to be opened by the test."""

    def make() -> App:
        return App(migrated_database, scheduling=SCHEDULING, execution=EXECUTION)

    yield make


@pytest.fixture
def start_process(processes: Processes, migrated_database: str) -> Callable[..., Process]:
    def start(version: int, **environment: str) -> Process:
        settings = {"TEST_DSN": migrated_database, "TEST_VERSION": str(version), **environment}
        process = processes.python(SCRIPT, env=settings)
        process.wait_for_line("worker ready")
        return process

    return start
