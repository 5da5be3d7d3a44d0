"""`perdure jobs`: one module for looking, one for following, one for starting, one for steering."""

from __future__ import annotations

import click

from perdure.cli.groups import Entry, LazyGroup

__all__ = ["jobs"]

_COMMANDS = {
    "list": Entry("perdure.cli.jobs.look:list_jobs", "List jobs, the newest first."),
    "show": Entry("perdure.cli.jobs.look:show", "Show all there is to know of a job."),
    "watch": Entry("perdure.cli.jobs.watch:watch", "Follow a job until it ends."),
    "start": Entry("perdure.cli.jobs.start:start", "Start a job."),
    "proceed": Entry("perdure.cli.jobs.steer:proceed", "Let suspended jobs go on."),
    "send": Entry("perdure.cli.jobs.steer:send", "Send an event, written as JSON, to a job."),
    "cancel": Entry("perdure.cli.jobs.steer:cancel", "Cancel jobs."),
    "retry": Entry("perdure.cli.jobs.steer:retry", "Let ended jobs begin again."),
}


@click.group(cls=LazyGroup, entries=_COMMANDS)
def jobs() -> None:
    """Start, list, show, watch and steer jobs.

    No code is needed for that: --dsn, PERDURE_DSN or perdure.toml say where the jobs are. With --app it is the
    database of that app, and what is stored by these commands is checked against the types of its tasks.

    \b
    Examples:
      perdure jobs list --state failed --state cancelled
      perdure jobs show 17
      perdure jobs watch 17
      perdure jobs start --app shop:app orders.import '{"shop": "riga"}'
      perdure jobs proceed 17 --at 2030-01-31T08:00+01:00
      perdure jobs send 17 --app shop:app '{"type": "Approved", "by": "ann"}'
      perdure jobs cancel 17 18
      perdure jobs retry 17 18
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
