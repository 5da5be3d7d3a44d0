"""Bad weather under load: connections cut at random, delays up to twice the lease, jitter, black holes without an end.

All of it between the workers and the database, and, where a client's calls come to an end, between clients and it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.proxy import CUTS, Weather
from tests.support.scenario.faults import WORKERS
from tests.support.tiers import seeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.proxy import Proxy
    from tests.support.scenario import Scenario

pytestmark = pytest.mark.timeout(400)
HANDLERS = "perdure"
_EFFECT_SECONDS = 120.0
_STATEMENTS = (b"update", b"insert", b"delete", b"select", b"COMMIT", b"begin", b"perdure")


async def _pause(scenario: Scenario, least_seconds: float, most_seconds: float) -> None:
    await asyncio.sleep(scenario.random.uniform(least_seconds, most_seconds))


async def _until_a_lease_is_lost(scenario: Scenario) -> None:
    """Wait until a worker has noticed that it couldn't renew its lease: else the weather was too fair."""
    worker = scenario.random.choice(scenario.crew.workers)
    await worker.line("has lost its lease", within_seconds=_EFFECT_SECONDS)


@pytest.mark.parametrize("seed", seeds("cuts", push=1, nightly=40))
async def test_cuts_at_random_break_nothing(new_scenario: Callable[..., Scenario], proxy: Proxy, seed: int) -> None:
    async def cut_each(_scenario: Scenario) -> None:
        """Each cut for certain: once all have come, something was cut."""
        for kind in CUTS:
            proxy.arm(b"", kind)
            await asyncio.wait_for(proxy.broken.wait(), _EFFECT_SECONDS)

    async def cut(scenario: Scenario) -> None:
        try:
            while True:
                await _pause(scenario, 0.02, 0.3)
                if scenario.random.random() < 0.1:
                    proxy.cut_all()
                    continue
                draw = scenario.random
                proxy.arm(draw.choice(_STATEMENTS), draw.choice(CUTS), skip=draw.randrange(10))
        finally:
            proxy.disarm()

    await new_scenario(seed, worker_dsn=proxy.dsn, client_dsn=proxy.dsn).must_hold(cut, first=cut_each)


@pytest.mark.parametrize("seed", seeds("delays", push=1, nightly=25))
async def test_delays_up_to_twice_the_lease_break_nothing(
    new_scenario: Callable[..., Scenario], proxy: Proxy, seed: int
) -> None:
    async def delay_renewals(scenario: Scenario) -> None:
        proxy.weather = Weather(delay_seconds=2 * scenario.lease_seconds)
        await _until_a_lease_is_lost(scenario)
        proxy.weather = Weather()

    async def delay(scenario: Scenario) -> None:
        draw = scenario.random
        try:
            while True:
                await _pause(scenario, 0.1, 1.0)
                # Each way: so an answer takes up to twice the lease, and what was sent under one lease comes after it.
                proxy.weather = Weather(
                    delay_seconds=draw.choice([0.01, 0.1, draw.uniform(0, scenario.lease_seconds)]),
                    jitter_seconds=draw.choice([0, 0.05, scenario.lease_seconds / 4]),
                    rate=draw.choice([None, None, 50_000]),
                )
                await _pause(scenario, 0.1, 2 * scenario.lease_seconds)
                proxy.weather = Weather()
        finally:
            proxy.weather = Weather()

    await new_scenario(seed, worker_dsn=proxy.dsn).must_hold(delay, first=delay_renewals)


@pytest.mark.parametrize("seed", seeds("black holes", push=1, nightly=25))
async def test_black_holes_break_nothing(new_scenario: Callable[..., Scenario], proxy: Proxy, seed: int) -> None:
    """Connections that are in one never come out of it: a worker has to notice by itself.

    But for those of handlers' own statements, whose length is the handlers' business: these are reset at last.
    """

    def heal() -> None:
        proxy.weather, proxy.weather_of = Weather(), {}
        proxy.cut_all(HANDLERS)

    async def swallow_renewals(scenario: Scenario) -> None:
        proxy.weather = Weather(black_hole=True)
        await _until_a_lease_is_lost(scenario)
        heal()

    async def swallow(scenario: Scenario) -> None:
        draw = scenario.random
        try:
            while True:
                await _pause(scenario, 0.1, 1.0)
                if draw.random() < 0.5:
                    proxy.weather = Weather(black_hole=True)
                else:
                    proxy.weather_of = {draw.choice(WORKERS[:3]): Weather(black_hole=True)}
                await _pause(scenario, 0.05, 2 * scenario.lease_seconds)
                heal()
        finally:
            heal()

    await new_scenario(seed, worker_dsn=proxy.dsn).must_hold(swallow, first=swallow_renewals)
