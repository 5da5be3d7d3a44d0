"""`perdure jobs start`, `proceed` and `cancel`: ask the library, print its answers."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import click

from perdure.answers import CancelRequested, JobNotFound, Proceeded
from perdure.app import App
from perdure.cli.access import app_option, codeless, named_app, run
from perdure.cli.errors import Misunderstood
from perdure.cli.jobs import views
from perdure.cli.jobs.arguments import due_time, job_id, json_bytes
from perdure.cli.output import note, output_option, print_json, print_line
from perdure.context import Context  # noqa: TC001 - the stand-in's annotation is read when it is defined
from perdure.core.states import JobState
from perdure.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import datetime, timedelta

    from perdure.core.codec import Codec
    from perdure.job import Job
    from perdure.task import Task

__all__ = ["cancel", "proceed", "start"]

_FAILED: Final = 1


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
    if target is None:
        if execution_metadata is None:
            message = (
                "without --app nothing is known of the task's types: give --app MODULE:APP, or its first checkpoint "
                "too: --execution-metadata null for a task that has none, '{}' for one whose fields have defaults"
            )
            raise Misunderstood(message)
        task = _untyped(app, task_name, execution_metadata)
    else:
        task = _task(app, task_name)
    payload = _decode(task.metadata, metadata, f"METADATA of {task_name}")
    checkpoint = None
    if execution_metadata is not None:
        checkpoint = _decode(task.execution_metadata, execution_metadata, f"--execution-metadata of {task_name}")
    job = run(_start(app, task, payload, checkpoint, place))
    if output == "json":
        print_json(views.as_json(job))
    else:
        print_line(f"job {job.id} ({job.name}) started")


@click.command
@click.argument("job_ids", metavar="ID...", type=job_id, nargs=-1, required=True)
@click.option("--at", type=due_time, metavar="TIME", help="When: ISO 8601 with a zone, or a duration from now.")
@app_option
@output_option
def proceed(
    job_ids: tuple[int, ...], target: str | None, dsn: str | None, *, at: datetime | timedelta | None, output: str
) -> None:
    """Let suspended jobs go on, now or at a time. A running one goes on as soon as it suspends.

    Exits with 1 when one of the jobs isn't there, or doesn't wait for that.

    \b
    Examples:
      perdure jobs proceed 17
      perdure jobs proceed 17 18 19 --at 2030-01-31T08:00+01:00
      perdure jobs proceed 17 --at 00:15:00
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    app = codeless(target, dsn)
    _report(run(_ask_each(app, job_ids, lambda job_id: app.proceed(job_id, at=at))), output)


@click.command
@click.argument("job_ids", metavar="ID...", type=job_id, nargs=-1, required=True)
@app_option
@output_option
def cancel(job_ids: tuple[int, ...], target: str | None, dsn: str | None, *, output: str) -> None:
    """Cancel jobs. One that is running is asked to stop, and cancelled when its attempt ends.

    Exits with 1 when one of the jobs isn't there, or has ended before.

    \b
    Examples:
      perdure jobs cancel 17
      perdure jobs cancel 17 18 19 --output json
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    app = codeless(target, dsn)
    _report(run(_ask_each(app, job_ids, app.cancel)), output)


async def _start(
    app: App, task: Task[Any, Any, Any, Any], metadata: Any, checkpoint: Any, place: dict[str, Any]
) -> Job[Any, Any, Any, Any]:
    async with app:
        started = await task.start(metadata, checkpoint, **place)
        # Read anew without the types: their values may be anything, and JSON is what is to be shown.
        async with App(app.dsn, persistence=app.config.persistence) as plain:
            return await plain.job(started.id)


async def _ask_each(app: App, job_ids: Iterable[int], ask: Callable[[int], Awaitable[Any]]) -> list[tuple[int, Any]]:
    async with app:
        return [(job_id, await ask(job_id)) for job_id in job_ids]


def _report(answers: list[tuple[int, Any]], output: str) -> None:
    """Print an answer for each job; exit with 1 unless all were what was asked for."""
    if output == "json":
        print_json([_as_json(job_id, answer) for job_id, answer in answers])
    else:
        for job_id, answer in answers:
            say = print_line if _is_done(answer) else note
            say(_in_words(job_id, answer))
    if not all(_is_done(answer) for _job_id, answer in answers):
        click.get_current_context().exit(_FAILED)


def _is_done(answer: Any) -> bool:
    return isinstance(answer, Proceeded | CancelRequested)


def _as_json(job_id: int, answer: Any) -> dict[str, object]:
    job = getattr(answer, "job", None)
    return {"id": job_id, "answer": type(answer).__name__, "job": None if job is None else views.as_json(job)}


def _in_words(job_id: int, answer: Any) -> str:
    if isinstance(answer, JobNotFound):
        return f"job {job_id}: there is no such job"
    job = answer.job
    what = f"job {job_id} ({job.name})"
    match answer:
        case Proceeded():
            return f"{what} was let go on; it is {job.state.value} now"
        case CancelRequested() if job.state is JobState.CANCELLED:
            return f"{what} is cancelled"
        case CancelRequested():
            return f"{what} is {job.state.value}; it will be cancelled when its attempt ends"
        case _:
            return f"{what} is {job.state.value}; nothing was changed"


def _task(app: App, name: str) -> Task[Any, Any, Any, Any]:
    task = app.tasks.get(name)
    if task is not None:
        return task
    near = get_close_matches(name, app.tasks, n=1)
    known = ", ".join(sorted(app.tasks)) or "none"
    message = f"the app has no task {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"its tasks: {known}")
    raise Misunderstood(message)


def _untyped(app: App, name: str, checkpoint: bytes) -> Task[Any, Any, Any, Any]:
    """Define a stand-in for a task whose code isn't here: any JSON is right."""

    async def with_checkpoint(ctx: Context[Any, Any]) -> None:
        raise NotImplementedError

    async def without(ctx: Context[Any, None]) -> None:
        raise NotImplementedError

    app.task(name)(without if json.loads(checkpoint) is None else with_checkpoint)
    return app.tasks[name]


def _decode(codec: Codec[Any], data: bytes, what: str) -> Any:
    try:
        return codec.decode(data, what=what)
    except PayloadError as error:
        raise Misunderstood(str(error)) from error
