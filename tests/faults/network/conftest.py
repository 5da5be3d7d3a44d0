"""A proxy before a database of the test's own, and who sends over it what comes late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from tests.faults.network.late import Late
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture
async def proxy(migrated_database: str) -> AsyncIterator[Proxy]:
    async with Proxy(migrated_database) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def late(proxy: Proxy) -> AsyncIterator[Late]:
    late = Late(proxy)
    async with late.app, late.other:
        yield late
    late.hands.close()
