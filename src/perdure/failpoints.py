"""Named points at which a test can kill or freeze this process, or hear that it has come by.

Set by the environment of a process: `PERDURE_FAILPOINTS="claim.committed=kill; persist.unsent=stop@3"`.

| action | what it does |
|---|---|
| `kill` | SIGKILL: nothing more happens in this process, no clean-up, no buffer is flushed |
| `stop` | SIGSTOP: it stands still and keeps all that it holds, until SIGCONT |
| `say` | goes on |

Each writes a line first, `failpoint claim.committed: kill`, to standard error. With `@3` it is done at the third time
that the point is reached, and only then; without, `kill` and `stop` are done at the first, `say` every time.

This module decides once, when it is imported. Without the variable `reach` and `reach_each` are functions that do
nothing: an exchange between worker and database makes three such calls, however many jobs it carries, a
`ctx.transaction()` two. CONTRIBUTING.md tells what that costs. Never set the variable but in tests.
"""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Final

from perdure.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = ["POINTS", "VARIABLE", "Failpoints", "reach", "reach_each"]

VARIABLE: Final = "PERDURE_FAILPOINTS"

# What an exchange carries, and how far it is: nothing is sent; all is sent but the transaction's end (where there are
# several statements); it is committed, and nothing is made of its answer yet.
_EXCHANGES = (
    f"{carried}.{moment}"
    for carried in ("claim", "persist", "progress", "finish", "release", "put back", "defer")
    for moment in ("unsent", "uncommitted", "committed")
)

POINTS: Final = (
    *_EXCHANGES,
    "sleep.unsent",  # that this worker sleeps, or doesn't any more: always alone
    "sleep.committed",
    "transaction.unsent",  # a block of ctx.transaction() has ended, neither fence nor COMMIT are sent
    "transaction.committed",  # it has committed, the attempt doesn't know
    "heartbeat.unsent",  # before a lease is registered or renewed
    "heartbeat.committed",  # it is, the process doesn't know
    "sweep.committed",  # leases that have lapsed are marked as such, their jobs are still held
    "rescue.uncommitted",  # what becomes of a lost worker's jobs is written, not committed
    "rescue.committed",
    "stop.flushed",  # a graceful stop has written all outcomes, and still holds its lease
    "batch.unsent",  # of a bulk start
    "batch.committed",
    "migration.uncommitted",
    "migration.committed",
)
"""Every point that there is."""

_PLAN = re.compile(r"\s*([^=]+?)\s*=\s*(kill|stop|say)\s*(?:@\s*([1-9][0-9]*))?\s*")


class Failpoints:
    """What is to be done at which point, and how often each was reached."""

    def __init__(self, text: str, *, variable: str = VARIABLE, points: Collection[str] = POINTS) -> None:
        """Read a variable's text.

        Raises:
            ConfigError: It names a point or an action that there isn't, or a point twice.
        """
        self._plans: dict[str, tuple[str, int | None]] = {}
        self._counts: dict[str, int] = {}
        for part in filter(str.strip, text.split(";")):
            match = _PLAN.fullmatch(part)
            if match is None:
                message = f"{variable}: {part.strip()!r} isn't point=action or point=action@n, with kill, stop or say"
                raise ConfigError(message)
            point, action, number = match.groups()
            if point not in points:
                message = f"{variable}: there is no point {point!r}; the points are {', '.join(points)}"
                raise ConfigError(message)
            if point in self._plans:
                message = f"{variable}: the point {point!r} is there twice"
                raise ConfigError(message)
            always = action == "say" and number is None
            self._plans[point] = (action, None if always else int(number or 1))

    def reach(self, point: str) -> None:
        """Do what is planned here, if it is."""
        plan = self._plans.get(point)
        if plan is None:
            return
        count = self._counts[point] = self._counts.get(point, 0) + 1
        action, number = plan
        if number not in {None, count}:
            return
        # Neither through `print` nor through logging: both have locks that this process may be frozen with.
        os.write(2, f"failpoint {point}: {action}\n".encode())
        if action != "say":
            # To this very thread, so that it doesn't get one step further.
            signal.raise_signal(signal.SIGKILL if action == "kill" else signal.SIGSTOP)

    def reach_each(self, carried: Iterable[str], moment: str) -> None:
        """Reach the point of each thing that an exchange carries."""
        for name in carried:
            self.reach(f"{name}.{moment}")


def _reach_nothing(_point: str) -> None:
    """Do nothing: failpoints are off."""


def _reach_none(_carried: Iterable[str], _moment: str) -> None:
    """Do nothing: failpoints are off."""


reach: Callable[[str], None] = _reach_nothing
reach_each: Callable[[Iterable[str], str], None] = _reach_none
if text := os.environ.get(VARIABLE):
    _failpoints = Failpoints(text)
    reach, reach_each = _failpoints.reach, _failpoints.reach_each
