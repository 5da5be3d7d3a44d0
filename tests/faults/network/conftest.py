"""A proxy before a database of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture
async def proxy(migrated_database: str) -> AsyncIterator[Proxy]:
    async with Proxy(migrated_database) as proxy:
        yield proxy
