"""Blocks that may wait for an answer, and what breaks their connections when none comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure.store.links import Limits

if TYPE_CHECKING:
    from psycopg import AsyncConnection


async def test_each_of_many_blocks_has_its_limit(database: str) -> None:
    limits = Limits()

    async def asks(connection: AsyncConnection[Any], seconds: float) -> None:
        limits.begin(connection, 0.5)
        try:
            await connection.execute("select pg_sleep(%s)", [seconds])
        finally:
            limits.end(connection)

    connections = [await psycopg.AsyncConnection.connect(database, autocommit=True) for _ in range(3)]
    try:
        await asks(connections[0], 0.2)  # whose limit is looked at when that of the next ones isn't reached
        waiting = [asyncio.create_task(asks(connection, 30)) for connection in connections[1:]]
        async with asyncio.timeout(10):
            for one in waiting:
                with pytest.raises(psycopg.OperationalError):
                    await one
        await asks(connections[0], 0.1)
        assert [connection.closed for connection in connections] == [False, True, True]
    finally:
        for connection in connections:
            await connection.close()
