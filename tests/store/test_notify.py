"""The listener: hints arrive, and whoever waits is told to look for itself whenever some may have been missed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from perdure.store.notify import Listener
from tests.support.jobs import until
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.store.workbench import Workbench

APPLICATION = "perdure listener"


@pytest.fixture
async def listener(store_dsn: str) -> AsyncIterator[Listener]:
    made = Listener(store_dsn)
    yield made
    await made.stop()


def _heard(listener: Listener, channel: str) -> asyncio.Queue[str | None]:
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    listener.add(channel, heard.put_nowait)
    return heard


async def _next(heard: asyncio.Queue[str | None]) -> str | None:
    return await asyncio.wait_for(heard.get(), 10)


async def test_after_connecting_everybody_looks_and_then_hears(bench: Workbench, listener: Listener) -> None:
    one, two = _heard(listener, "one"), _heard(listener, "two")
    listener.start()
    assert [await _next(one), await _next(two)] == [None, None]
    bench.sql("select pg_notify('two', 'größe'), pg_notify('one', '')")
    assert [await _next(one), await _next(two)] == ["", "größe"]


async def test_a_channel_can_be_added_while_listening(bench: Workbench, listener: Listener) -> None:
    one = _heard(listener, "one")
    listener.start()
    assert await _next(one) is None
    for number in range(5):
        other = _heard(listener, f"other {number}")
        assert await _next(other) is None
        bench.sql("select pg_notify(%s, 'to other'), pg_notify('one', %s)", f"other {number}", str(number))
        assert [await _next(other), await _next(one)] == ["to other", str(number)]


async def test_a_connection_that_has_died_silently_is_found_out(
    store_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the kernel it is alive: whoever is in between takes the bytes and passes nothing on."""
    monkeypatch.setattr("perdure.store.notify._ROUND_TRIP_SECONDS", 0.5)
    async with Proxy(store_dsn) as proxy:
        listener = Listener(proxy.dsn)
        one = _heard(listener, "one")
        listener.start()
        try:
            assert await _next(one) is None
            proxy.weather.black_hole = True
            await until(lambda: not listener.is_listening, "it finds out that it hears nothing")
            proxy.weather.black_hole = False
            assert await _next(one) is None
        finally:
            await listener.stop()


async def test_after_a_lost_connection_everybody_looks_again(bench: Workbench, listener: Listener) -> None:
    one = _heard(listener, "one")
    listener.start()
    assert await _next(one) is None
    terminate = "select pg_terminate_backend(pid) as done from pg_stat_activity where application_name = %s"
    assert bench.sql(terminate + " and datname = current_database()", APPLICATION) == [{"done": True}]
    assert await _next(one) is None
    bench.sql("select pg_notify('one', 'again')")
    assert await _next(one) == "again"


async def test_without_a_database_it_goes_on_trying(private_cluster: Any) -> None:
    private_cluster.stop()
    listener = Listener(private_cluster.dsn())
    one = _heard(listener, "one")
    listener.start()
    try:
        await asyncio.to_thread(private_cluster.start)
        assert await _next(one) is None
    finally:
        await listener.stop()


async def test_it_stops_at_once_and_closes_its_connection(bench: Workbench, listener: Listener) -> None:
    one = _heard(listener, "one")
    listener.start()
    assert await _next(one) is None
    await asyncio.wait_for(listener.stop(), 10)
    count = (
        "select count(*) as count from pg_stat_activity where application_name = %s and datname = current_database()"
    )
    await asyncio.to_thread(
        wait_until, lambda: bench.sql(count, APPLICATION) == [{"count": 0}], "it is still connected"
    )


async def test_it_ends_with_the_event_loop_when_nobody_stops_it(listener: Listener) -> None:
    one = _heard(listener, "one")
    listener.start()
    assert await _next(one) is None
    # What `asyncio.run` does at its end; a task that doesn't end then holds the process for ever.
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == APPLICATION)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
