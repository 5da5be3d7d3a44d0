"""What a side is: a way to start jobs and one to run them, each in processes of its own.

The peers' modules run in an environment without perdure, so nothing here may need it.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import platform
import signal
from typing import TYPE_CHECKING, Any, ClassVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.payloads import Order
    from benchmarks.probe import Probe

__all__ = ["LOOPS", "Side", "load", "loop_factory"]

LOOPS = ("uvloop", "asyncio")


class Side:
    """One of those compared: a module `benchmarks.sides.NAME` with a class `Bench`.

    Attributes:
        distributions: What the versions are told of.
        about: How it was configured, for the report.
        defaults: Settings at which it does best.
        idle: Other settings, for an idle worker: the library's own.
        unfinished: A query: is there a job that hasn't ended?
        finished: A query: how many have completed?
        batch: Jobs a call of `start_many`.
    """

    distributions: ClassVar[tuple[str, ...]] = ()
    about: ClassVar[str] = ""
    defaults: ClassVar[Mapping[str, Any]] = {}
    idle: ClassVar[Mapping[str, Any]] = {}
    unfinished: ClassVar[str] = ""
    finished: ClassVar[str] = ""
    batch: ClassVar[int] = 1000

    def __init__(self, dsn: str, settings: Mapping[str, Any] | None = None) -> None:
        """Prepare; nothing is connected yet."""
        self.dsn = dsn
        self.settings = {**self.defaults, **(settings or {})}

    @classmethod
    def facts(cls) -> dict[str, Any]:
        """Return what the measuring process has to know of it."""
        versions = {name: importlib.metadata.version(name) for name in cls.distributions}
        return {
            "python": platform.python_version(),
            "versions": versions,
            "about": cls.about,
            "unfinished": cls.unfinished,
            "finished": cls.finished,
        }

    async def setup(self) -> None:
        """Make its tables in an empty database."""

    async def open(self) -> None:
        """Connect to start jobs."""

    async def close(self) -> None:
        """Disconnect."""

    async def start(self, payload: Order, *, wake: bool) -> None:
        """Start one job; with `wake`, a worker may be idle and is to hear of it."""
        raise NotImplementedError

    async def start_many(self, payloads: Sequence[Order]) -> None:
        """Start many jobs, the best way there is."""
        raise NotImplementedError

    async def start_steps(self, jobs: int, times: int) -> None:
        """Start jobs of so many steps each."""
        raise NotImplementedError

    def work(self, work: str, probe: Probe, loop: str) -> None:
        """Run jobs until SIGTERM."""
        with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
            runner.run(self._serve(work, probe))

    async def _serve(self, work: str, probe: Probe) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await self.serve(work, probe, stop)

    async def serve(self, work: str, probe: Probe, stop: asyncio.Event) -> None:
        """Run jobs until told to stop."""
        raise NotImplementedError


def load(name: str) -> type[Side]:
    """Return a side by its name.

    Raises:
        ImportError: What it needs isn't installed here.
    """
    return cast("type[Side]", importlib.import_module(f"benchmarks.sides.{name}").Bench)


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes an event loop; None stands for asyncio's own.

    Raises:
        ImportError: uvloop isn't installed.
    """
    if name == "asyncio":
        return None
    import uvloop  # noqa: PLC0415 - optional

    return cast("Callable[[], asyncio.AbstractEventLoop]", uvloop.new_event_loop)
