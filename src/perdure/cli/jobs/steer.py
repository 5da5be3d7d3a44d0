"""`perdure jobs proceed`, `send`, `cancel` and `retry`: ask the library, print its answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from perdure.answers import (
    CancelRequested,
    JobNotFound,
    ModificationFailed,
    NotSuspended,
    Proceeded,
    Retried,
    Sent,
)
from perdure.cli.access import app_option, codeless, named_app, run
from perdure.cli.errors import Misunderstood
from perdure.cli.jobs import views
from perdure.cli.jobs.arguments import due_time, job_id, json_bytes
from perdure.cli.jobs.code import Known, Unchecked
from perdure.cli.output import note, output_option, print_json, print_line
from perdure.core.states import JobState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import datetime, timedelta

    from perdure.app import App
    from perdure.cli.jobs.code import Code
    from perdure.job import Job

__all__ = ["cancel", "proceed", "retry", "send"]

_FAILED: Final = 1

_unchecked_option = click.option("--unchecked", is_flag=True, help="Do without the code: store the JSON as it is.")


@click.command
@click.argument("job_ids", metavar="ID...", type=job_id, nargs=-1, required=True)
@click.option("--at", type=due_time, metavar="TIME", help="When: ISO 8601 with a zone, or a duration from now.")
@click.option(
    "--merge",
    type=json_bytes,
    metavar="JSON",
    help="Change the checkpoint: a merge patch, in which null removes a key.",
)
@_unchecked_option
@app_option
@output_option
def proceed(
    job_ids: tuple[int, ...],
    target: str | None,
    dsn: str | None,
    *,
    at: datetime | timedelta | None,
    merge: bytes | None,
    unchecked: bool,
    output: str,
) -> None:
    """Let suspended jobs go on, now or at a time. A running one goes on as soon as it suspends.

    With --merge the execution metadata is changed first (JSON merge patch, RFC 7396), under the job's lock; not that of
    a job that runs or is in a ctx.sleep(). With --app the result is checked against the task's type; without the code
    it takes --unchecked.

    Exits with 1 when one of the jobs isn't there, doesn't wait for that, or can't be changed so.

    \b
    Examples:
      perdure jobs proceed 17
      perdure jobs proceed 17 18 19 --at 2030-01-31T08:00+01:00
      perdure jobs proceed 17 --at 00:15:00
      perdure jobs proceed 17 --app shop:app --merge '{"page": 12}'
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    if merge is None:
        app = codeless(target, dsn)
        _report(run(_ask_each(app, job_ids, lambda job_id: app.proceed(job_id, at=at))), output)
        return
    code, patch = _code(target, dsn, unchecked=unchecked, option="--merge"), json.loads(merge)
    _report(run(_ask_each(code.app, job_ids, lambda job_id: code.proceed(job_id, patch, at=at))), output)


@click.command
@click.argument("job_id", metavar="ID", type=job_id)
@click.argument("event", metavar="EVENT", type=json_bytes)
@_unchecked_option
@app_option
@output_option
def send(job_id: int, event: bytes, target: str | None, dsn: str | None, *, unchecked: bool, output: str) -> None:
    """Send an event, written as JSON, to a job; `-` reads it from standard input. A suspended job goes on.

    With --app the event is checked against what the task takes; without the code it takes --unchecked.

    Exits with 1 when the job isn't there, or has ended.

    \b
    Examples:
      perdure jobs send 17 --app shop:app '{"type": "Approved", "by": "ann"}'
      perdure jobs send 17 --unchecked '{"type": "Approved", "by": "ann"}'
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    code = _code(target, dsn, unchecked=unchecked, option="EVENT")
    _report(run(_ask_each(code.app, [job_id], lambda job_id: code.send(job_id, event))), output)


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


@click.command
@click.argument("job_ids", metavar="ID...", type=job_id, nargs=-1, required=True)
@click.option("--afresh", is_flag=True, help="From the beginning: without its checkpoint, steps and unread events.")
@click.option(
    "--execution-metadata",
    type=json_bytes,
    metavar="JSON",
    help="With --afresh: the first checkpoint, instead of the type's defaults.",
)
@app_option
@output_option
def retry(
    job_ids: tuple[int, ...],
    target: str | None,
    dsn: str | None,
    *,
    afresh: bool,
    execution_metadata: bytes | None,
    output: str,
) -> None:
    """Let ended jobs begin again, now: from their checkpoint, or --afresh, which takes --app or the first checkpoint.

    Exits with 1 when one of the jobs isn't there, or hasn't ended.

    \b
    Examples:
      perdure jobs retry 17 18 19
      perdure jobs retry 17 --afresh --app shop:app
      perdure jobs retry 17 --afresh --execution-metadata '{}'
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    if execution_metadata is not None and not afresh:
        message = "--execution-metadata is where a job begins --afresh: give both, or neither"
        raise Misunderstood(message)
    if not afresh:
        app = codeless(target, dsn)
        _report(run(_ask_each(app, job_ids, app.retry)), output)
        return
    if target is None and execution_metadata is None:
        message = (
            "--afresh: without the code it isn't known where the task begins: give --app MODULE:APP, or the first "
            "checkpoint: --execution-metadata null for a task that has none, '{}' for one whose fields have defaults"
        )
        raise Misunderstood(message)
    code = _code(target, dsn, unchecked=target is None, option="--afresh")
    _report(run(_ask_each(code.app, job_ids, lambda job_id: code.retry(job_id, execution_metadata))), output)


def _code(target: str | None, dsn: str | None, *, unchecked: bool, option: str) -> Code:
    """Return what knows the types: the app's code or, unchecked, nothing."""
    if unchecked:
        return Unchecked(codeless(target, dsn))
    if target is None:
        message = (
            f"{option}: without the code nothing checks it: give --app MODULE:APP, or --unchecked to store it as it is"
        )
        raise Misunderstood(message)
    return Known(named_app(target, dsn))


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
    return isinstance(answer, Proceeded | CancelRequested | Sent | Retried)


def _as_json(job_id: int, answer: Any) -> dict[str, object]:
    job = getattr(answer, "job", None)
    shown: dict[str, object] = {
        "id": job_id,
        "answer": type(answer).__name__,
        "job": None if job is None else views.as_json(job.untyped()),
    }
    if isinstance(answer, ModificationFailed):
        shown["message"] = answer.message
    return shown


def _in_words(job_id: int, answer: Any) -> str:
    match answer:
        case JobNotFound():
            return f"job {job_id}: there is no such job"
        case Sent():
            return f"job {job_id} was sent the event"
        case ModificationFailed(message):
            return f"job {job_id}: nothing was changed: {message}"
        case _:
            job: Job[Any, Any, Any, Any] = answer.job
            return f"job {job_id} ({job.name}) " + _what_became(answer, job.state)


def _is_asleep(answer: Any, state: JobState) -> bool:
    return state is JobState.SUSPENDED and isinstance(answer, Proceeded | NotSuspended)


def _what_became(answer: Any, state: JobState) -> str:
    is_asleep = _is_asleep(answer, state)
    here = "in a ctx.sleep()" if is_asleep else str(state)
    match answer:
        case Proceeded() if is_asleep or state is JobState.RUNNING:
            return f"is {here}; it goes on as soon as it suspends"
        case Proceeded():
            return f"was let go on; it is {state} now"
        case Retried():
            return f"begins again; it is {state} now"
        case CancelRequested() if state is JobState.CANCELLED:
            return "is cancelled"
        case CancelRequested():
            return f"is {state}; it will be cancelled when its attempt ends"
        case _:
            return f"is {here}; nothing was changed"
