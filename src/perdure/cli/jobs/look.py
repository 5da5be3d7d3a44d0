"""`perdure jobs list` and `show`: read, and change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from perdure.cli.access import app_option, codeless, run
from perdure.cli.jobs import story, views
from perdure.cli.jobs.arguments import job_id, json_filter
from perdure.cli.output import note, output_option, print_fields, print_json, print_line, print_table
from perdure.core.states import JobState
from perdure.query import JobQuery

if TYPE_CHECKING:
    from perdure.app import App
    from perdure.history import AttemptRecord
    from perdure.job import Job

__all__ = ["list_jobs", "show"]

_LARGEST_PAGE = 1_000


@click.command("list")
@app_option
@click.option("--state", "states", multiple=True, type=click.Choice([state.value for state in JobState]))
@click.option("--name", "names", multiple=True, metavar="TASK", help="Jobs of this task.")
@click.option("--queue", "queues", multiple=True, metavar="QUEUE", help="Jobs of this queue.")
@click.option("--metadata", type=json_filter, metavar="JSON", help="Jobs whose metadata contains this.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most jobs to list.")
@click.option("--order", type=click.Choice(["descending", "ascending"]), default="descending", show_default=True)
@output_option
def list_jobs(target: str | None, dsn: str | None, *, limit: int, output: str, **filters: Any) -> None:
    """List jobs, the newest first.

    Options of the same name widen the list, different ones narrow it: --state failed --state cancelled --queue slow.

    \b
    Examples:
      perdure jobs list
      perdure jobs list --state failed --state cancelled
      perdure jobs list --name orders.import --metadata '{"shop": "riga"}'
      perdure jobs list --state suspended --limit 1000 --output json
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    found = run(_newest(codeless(target, dsn), limit, filters))
    jobs = found[:limit]
    if output == "json":
        print_json([views.as_json(job) for job in jobs])
    else:
        print_table(views.HEADER, map(views.as_row, jobs), styles=[views.style_of(job.state) for job in jobs])
    if len(found) > limit:
        note(f"There are more: --limit {limit * 10} shows up to {limit * 10:,}.")


@click.command
@click.argument("job_id", metavar="ID", type=job_id)
@click.option("--traceback", "is_full", is_flag=True, help="Show the errors of all attempts in full.")
@app_option
@output_option
def show(job_id: int, target: str | None, dsn: str | None, *, is_full: bool, output: str) -> None:
    """Show all there is to know of a job, and its story: each attempt, where, how long, what woke it, how it ended.

    \b
    Examples:
      perdure jobs show 17
      perdure jobs show 17 --traceback
      perdure jobs show 17 --output json | jq .metadata
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    job, attempts, unread = run(_read(codeless(target, dsn), job_id))
    if output == "json":
        shown = views.as_json(job)
        print_json({**shown, "unread_events": unread, "attempts": [story.as_json(attempt) for attempt in attempts]})
        return
    fields = list(views.as_fields(job))
    print_fields([*fields, ("unread events", str(unread))] if unread else fields)
    if attempts:
        print_line("")
        print_table(story.HEADER, map(story.as_row, attempts), styles=[story.style_of(each) for each in attempts])
    if is_full:
        for name, traceback in story.tracebacks(attempts):
            print_line("")
            print_fields([(name, traceback)])


async def _newest(app: App, limit: int, filters: dict[str, Any]) -> list[Job[Any, Any, Any, Any]]:
    """Read one job more than is listed: so it is known whether there are more."""
    given = {name: value for name, value in filters.items() if value not in ((), None)}
    query = JobQuery(**given, page_size=min(limit + 1, _LARGEST_PAGE))
    found: list[Job[Any, Any, Any, Any]] = []
    async with app:
        async for job in app.jobs(query):
            found.append(job)
            if len(found) > limit:
                break
    return found


async def _read(app: App, job_id: int) -> tuple[Job[Any, Any, Any, Any], list[AttemptRecord[Any]], int]:
    async with app:
        return await app.job(job_id), await app.history(job_id), await app.unread_events(job_id)
