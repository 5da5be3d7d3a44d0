"""What fails over and over is tried again for as long as that lasts, at delays that don't grow for ever."""

from __future__ import annotations

import asyncio

from perdure.cli.supervisor import Supervisor
from perdure.worker.service import Service
from tests.support.jobs import until

NIGHT = 1100  # failures: the double of the double of … 1,024 times over is more than a float holds


class Failing(Service):
    name = "failing"
    runs = 0

    async def run_once(self) -> float:
        self.runs += 1
        self.poke()  # again at once
        await asyncio.sleep(0)
        message = "for hours"
        raise RuntimeError(message)


async def test_a_service_that_fails_for_hours_goes_on() -> None:
    service = Failing()
    service.start()
    await until(lambda: service.runs > NIGHT, "it goes on")
    await service.stop()


async def test_a_process_that_ends_over_and_over_is_started_again_within_a_minute() -> None:
    said = list[str]()
    supervisor = Supervisor([], 1, on_ready=said.append, on_trouble=said.append)
    supervisor._stopping.set()  # so that nothing is waited for
    place = supervisor._places[0]
    for _ in range(NIGHT):
        await supervisor._back_off(place, 1)
    assert "ended with exit code 1; it is started again in " in said[-1]
    assert float(said[-1].split()[-2]) < 60
