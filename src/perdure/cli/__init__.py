"""The command line, `perdure`: one module a command group, each loaded when it is asked for.

Knows neither SQL nor rules: a command reads its arguments, calls the library and shows what comes back.
"""

from __future__ import annotations

import click

from perdure.cli.groups import Entry, RootGroup
from perdure.version import __version__

__all__ = ["main"]

_COMMANDS = {
    "demo": Entry("perdure.cli.demo:demo", "Watch real work being killed, and going on where it was."),
    "worker": Entry("perdure.cli.worker:worker", "Claim and run the jobs of an app."),
    "migrate": Entry("perdure.cli.migrate:migrate", "Bring the database's schema up to date."),
    "jobs": Entry("perdure.cli.jobs:jobs", "Start, list, show, watch and steer jobs."),
    "graph": Entry("perdure.cli.graph:graph", "Draw the graph of a state machine."),
    "check-resume": Entry("perdure.cli.check_resume:check_resume", "Find live jobs that new code couldn't go on with."),
    "doctor": Entry("perdure.cli.doctor:doctor", "Find out what is wrong with the database, and what to do."),
    "config": Entry("perdure.cli.config:config", "Print every setting, its value and where it came from."),
    "db": Entry("perdure.cli.db:db", "Start and stop the embedded PostgreSQL."),
}


@click.group(cls=RootGroup, entries=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="perdure %(version)s")
def main() -> None:
    """Durable background jobs on PostgreSQL.

    \b
    Examples:
      perdure demo                                  see it survive
      perdure migrate                               make its tables
      perdure worker shop:app                       run the jobs of `app` in shop.py
      perdure jobs list --state failed              look at jobs
      perdure jobs watch 17                         follow one
      perdure doctor                                find out what is wrong

    The database is the one of the app, of --dsn, of PERDURE_DSN or of perdure.toml; without any of these it is an
    embedded PostgreSQL in ./.perdure. `perdure COMMAND --help` tells more.

    Exit codes: 0 done, 1 failed, 2 not understood.
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
