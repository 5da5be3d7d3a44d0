"""What a supervisor answers of its worker processes' health: it asks each at the port that it answers at.

A process that isn't there is being started again: that is the supervisor's to do, and no reason to restart it as well.
One that is there and doesn't answer stands still.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from perdure.worker.health import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.worker.health import Address

__all__ = ["Together"]

# Shorter than an orchestrator waits, so that it is told which of them it is.
_ANSWER_SECONDS: Final = 0.8
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - who listens everywhere is asked on the loopback


class Together:
    """All of them as one."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        """Ask at these addresses, in the order of the processes' numbers."""
        self._addresses = [address._replace(host=_ANYWHERE.get(address.host, address.host)) for address in addresses]
        self._threads = ThreadPoolExecutor(len(self._addresses), thread_name_prefix="perdure health asks")

    def live(self) -> Answer:
        """Whether none of those that are there need be restarted."""
        return self._all("/livez", Answer.well("it is being started"))

    def ready(self) -> Answer:
        """Whether all of them claim jobs."""
        return self._all("/readyz", Answer.ill("it is being started"))

    def _all(self, question: str, when_absent: Answer) -> Answer:
        asked = [self._threads.submit(_ask, address, question, when_absent) for address in self._addresses]
        answers = [one.result() for one in asked]
        ailing = [(number, answer) for number, answer in enumerate(answers, 1) if not answer.is_well]
        if not ailing:
            return Answer.well(f"{len(answers)} processes: {answers[0].why}")
        return Answer.ill("; ".join(f"worker process {number}: {answer.why}" for number, answer in ailing))


def _ask(address: Address, question: str, when_absent: Answer) -> Answer:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_ANSWER_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request("GET", question)
            response = connection.getresponse()
            why = str(json.loads(response.read())["why"])
            return Answer(is_well=response.status == http.client.OK, why=why)
        except ConnectionError:
            return when_absent
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            return Answer.ill(f"it doesn't answer ({error})")
