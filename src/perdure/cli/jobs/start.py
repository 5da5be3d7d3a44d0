"""`perdure jobs start`: a job of a task of the named app, or of one whose code isn't here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from perdure.cli.access import app_option, named_app, run
from perdure.cli.errors import Misunderstood
from perdure.cli.jobs import views
from perdure.cli.jobs.arguments import due_time, duration, json_bytes
from perdure.cli.jobs.tasks import decoded, stand_in, task_named
from perdure.cli.output import output_option, print_json, print_line

if TYPE_CHECKING:
    from perdure.app import App
    from perdure.job import Job
    from perdure.task import Task

__all__ = ["start"]


@click.command
@click.argument("task_name", metavar="TASK")
@click.argument("metadata", type=json_bytes, default="null")
@click.option(
    "--execution-metadata",
    type=json_bytes,
    metavar="JSON",
    help="Its first checkpoint, instead of the type's defaults.",
)
@click.option("--at", type=due_time, metavar="TIME", help="When: ISO 8601 with a zone, or a duration from now.")
@click.option("--queue", help="Its queue, instead of the task's.")
@click.option("--priority", type=click.IntRange(-100, 100), help="Larger runs first.")
@click.option("--deadline", type=duration, metavar="DURATION", help="How long it may take from when it is due.")
@app_option
@output_option
def start(
    task_name: str,
    metadata: bytes,
    execution_metadata: bytes | None,
    target: str | None,
    dsn: str | None,
    *,
    output: str,
    **place: Any,
) -> None:
    """Start a job with this metadata, written as JSON; `-` reads it from standard input.

    With --app the metadata is checked against the task's type before anything is stored. Without it nothing is known
    of the task: any name and any JSON is stored, and the first checkpoint has to be given.

    \b
    Examples:
      perdure jobs start --app shop:app orders.import '{"shop": "riga"}'
      perdure jobs start --app shop:app orders.import - < metadata.json
      perdure jobs start --app shop:app orders.import '{"shop": "riga"}' --at 01:30:00 --queue slow --priority 5
      perdure jobs start orders.import '{"shop": "riga"}' --execution-metadata '{}'
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    app = named_app(target, dsn)
    if target is not None:
        task = task_named(app, task_name)
    elif execution_metadata is not None:
        task = stand_in(app, task_name, has_checkpoint=json.loads(execution_metadata) is not None)
    else:
        message = (
            "without --app nothing is known of the task's types: give --app MODULE:APP, or its first checkpoint "
            "too: --execution-metadata null for a task that has none, '{}' for one whose fields have defaults"
        )
        raise Misunderstood(message)
    payload = decoded(task.metadata, metadata, f"METADATA of {task_name}")
    checkpoint = None
    if execution_metadata is not None:
        checkpoint = decoded(task.execution_metadata, execution_metadata, f"--execution-metadata of {task_name}")
    job = run(_start(app, task, payload, checkpoint, place))
    if output == "json":
        print_json(views.as_json(job.untyped()))
    else:
        print_line(f"job {job.id} ({job.name}) started")


async def _start(
    app: App, task: Task[Any, Any, Any, Any], metadata: Any, checkpoint: Any, place: dict[str, Any]
) -> Job[Any, Any, Any, Any]:
    async with app:
        job: Job[Any, Any, Any, Any] = await task.start(metadata, checkpoint, **place)
        return job
