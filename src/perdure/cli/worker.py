"""`perdure worker`: serve an app's jobs in this process, or in several that it keeps alive.

What a worker does is written in `perdure.worker`; here are its arguments, its lines, and signals until it takes over.
"""

from __future__ import annotations

import atexit
import os
import signal
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

import click

from perdure.cli.errors import Misunderstood
from perdure.cli.groups import is_debugging
from perdure.cli.logs import log_to_stderr
from perdure.cli.output import note, print_line
from perdure.cli.supervised import SupervisorLine
from perdure.cli.supervisor import Supervisor, worker_command
from perdure.cli.target import load_app
from perdure.errors import MisuseError
from perdure.options import check_queue
from perdure.worker.health import LARGEST_PORT, Address
from perdure.worker.run import run_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from perdure.app import App

__all__ = ["worker"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_MOST_PROCESSES: Final = 1_000  # far more than make sense on a machine; a slip of the keyboard isn't to fill its memory


def queue_names(text: str) -> list[str]:
    """Take names apart that stand between commas."""
    try:
        return [check_queue(name.strip(), where="--queues") for name in text.split(",")]
    except MisuseError as error:
        raise click.BadParameter(str(error)) from error


def health_address(text: str) -> Address:
    """Read where to answer how the worker is."""
    try:
        return Address.read(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command
@click.argument("target", metavar="MODULE:APP")
@click.option("--queues", type=queue_names, metavar="A,B", help="Serve these queues; otherwise all.")
@click.option(
    "--concurrency", type=click.IntRange(min=1, max=2**31 - 1), metavar="N", help="Jobs at once in a process."
)
@click.option(
    "--processes",
    type=click.IntRange(min=1, max=_MOST_PROCESSES),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes to keep alive.",
)
@click.option(
    "--health",
    type=health_address,
    metavar="[HOST:]PORT",
    help="Answer GET /livez and /readyz there, on the loopback unless a host is given.",
)
@click.option(
    "--supervised-by", "line", type=int, hidden=True, help="What the processes of --processes are started with."
)
@click.pass_context
def worker(
    ctx: click.Context,
    target: str,
    *,
    queues: list[str] | None,
    concurrency: int | None,
    processes: int,
    health: Address | None,
    line: int | None,
) -> None:
    """Claim and run the jobs of an app.

    SIGTERM and SIGINT (Ctrl-C) stop it: it claims no more, lets running jobs end within the shutdown grace, suspends
    the rest at their checkpoints and exits with 0. A second signal skips the grace. It waits for a database that is
    away. Once it claims, it writes a line that begins with "ready".

    With --health it answers GET /livez (200: need not be restarted) and /readyz (200: it claims jobs). With --processes
    too, PORT answers for all of them, and PORT+1, PORT+2, … for each.

    \b
    Examples:
      perdure worker shop:app                                `app` in shop.py of this folder
      perdure worker shop.jobs:app --queues default,slow     these queues alone
      perdure worker shop:app --concurrency 20 --processes 4
      perdure worker shop:app --health 0.0.0.0:8080          for an orchestrator's probes
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    debug = is_debugging(ctx)
    atexit.register(_set_signals, signal.SIG_IGN)  # the first one registered is the last one called
    if processes > 1:
        _check_ports(health, processes)
        command = worker_command(target, queues=queues, concurrency=concurrency, debug=debug)
        code = Supervisor(command, processes, health=health, on_ready=print_line, on_trouble=note).run()
    else:
        code = _serve(target, queues, concurrency, health, line, debug=debug)
    _set_signals(_leaving(code))
    ctx.exit(code)


class Reporter(Protocol):
    """Whom a worker tells how it is."""

    def ready(self, what: str) -> None:
        """It claims; `what` it serves."""
        ...

    def waiting(self, why: str) -> None:
        """It can't start yet."""
        ...


def _check_ports(health: Address | None, processes: int) -> None:
    """Make sure that each process has a port to answer at."""
    if health is not None and health.beside(processes).port > LARGEST_PORT:
        message = (
            f"--health {health} --processes {processes}: these take the {processes} ports above it as well, and the "
            f"last one that there is is {LARGEST_PORT}"
        )
        raise Misunderstood(message)


class _Terminal:
    """Whoever started it."""

    def ready(self, what: str) -> None:
        print_line(f"ready: {what} (process {os.getpid()})")

    def waiting(self, why: str) -> None:
        note(why)


def _serve(
    target: str,
    queues: Sequence[str] | None,
    concurrency: int | None,
    health: Address | None,
    line: int | None,
    *,
    debug: bool,
) -> int:
    """Serve in this process; `line` leads to its supervisor, if it has one."""
    reporter: Reporter = _Terminal() if line is None else SupervisorLine(line)
    try:
        _set_signals(_stop_starting)
        app = load_app(target)
        log_to_stderr(debug=debug)
        return run_worker(
            app,
            queues=queues,
            concurrency=concurrency,
            health=health,
            on_ready=lambda: reporter.ready(_served(app, queues, concurrency)),
            on_wait=reporter.waiting,
        )
    except _StoppedStarting:
        return 0


def _served(app: App, queues: Sequence[str] | None, concurrency: int | None) -> str:
    tasks = f"{len(app.tasks)} task{'' if len(app.tasks) == 1 else 's'}"
    where = "all queues" if queues is None else f"queue{'' if len(queues) == 1 else 's'} {', '.join(queues)}"
    return f"{tasks}, {where}, {concurrency or app.config.execution.concurrency} jobs at once"


def _set_signals(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for number in _SIGNALS:
        signal.signal(number, handler)


class _StoppedStarting(BaseException):
    """A signal came before there was anything to stop. Not an Exception: importing code must not catch it."""


def _stop_starting(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _StoppedStarting


def _leaving(code: int) -> Callable[[int, FrameType | None], NoReturn]:
    """All is written: a signal that comes now may only hurry what the interpreter does at its end."""

    def leave(_number: int, _frame: FrameType | None) -> NoReturn:
        os._exit(code)

    return leave
