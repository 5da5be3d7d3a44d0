"""`perdure demo`: shows a job that is killed and goes on, and whether all was done exactly once."""

from __future__ import annotations

import random
from typing import Final

import click

from perdure.cli.access import dsn_option, run
from perdure.cli.demo.displays import Bar, Lines
from perdure.cli.demo.report import print_report
from perdure.cli.output import is_terminal
from perdure.demo.run import run_demo

__all__ = ["demo"]

_NOT_EXACT: Final = 1
_SEEDS: Final = 10_000
_MOST_FAULTS: Final = 100


@click.command
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Strike at the same points again.")
@click.option(
    "--faults",
    type=click.IntRange(min=0, max=_MOST_FAULTS),
    default=6,
    show_default=True,
    metavar="N",
    help="How often a worker is struck.",
)
@click.option("--plain", is_flag=True, help="Print lines, as it is done where there is no terminal, not a live bar.")
@dsn_option
def demo(seed: int | None, faults: int, dsn: str | None, *, plain: bool) -> None:
    """Watch real work being killed, and going on where it was.

    A job indexes the sources of Python's standard library into tables, page by page. Its worker process is stopped
    (SIGTERM), killed (SIGKILL) and frozen for longer than its lease (SIGSTOP), each at a random point, and another
    goes on. Then the tables are compared with an index made in one go: exactly once, yes or no. It takes less than a
    minute, and clears its tables away (schemas perdure_demo and perdure_demo_library).

    \b
    Examples:
      perdure demo                            on the embedded PostgreSQL in ./.perdure
      perdure demo --seed 7 --faults 12       twelve faults, at the points of seed 7
      perdure demo --dsn postgresql://localhost/test
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    seed = random.randrange(_SEEDS) if seed is None else seed  # noqa: S311 - nothing secret
    with Bar() if is_terminal() and not plain else Lines() as display:
        report = run(run_demo(dsn=dsn, seed=seed, faults=faults, on_event=display.show))
    print_report(report)
    if not report.is_exact:
        click.get_current_context().exit(_NOT_EXACT)
