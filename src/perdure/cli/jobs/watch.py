"""`perdure jobs watch`: follow a job until it ends; a live bar on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Self

import click
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from perdure.cli.access import app_option, codeless, run
from perdure.cli.jobs import views
from perdure.cli.jobs.arguments import job_id
from perdure.cli.jobs.pace import Pace
from perdure.cli.output import console, is_terminal, output_option, print_json, print_line, time_text
from perdure.cli.text import printable
from perdure.core.states import JobState
from perdure.errors import JobEndedBadly

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from perdure.app import App
    from perdure.job import Job

    Show = Callable[[Job[Any, Any, Any, Any], Pace], None]

__all__ = ["watch"]

_FAILED: Final = 1
_WIDE: Final = 100  # columns of a terminal


@click.command
@click.argument("job_id", metavar="ID", type=job_id)
@click.option(
    "--interval", type=click.FloatRange(min=0.05), default=0.5, show_default=True, help="Seconds between two looks."
)
@app_option
@output_option
def watch(job_id: int, target: str | None, dsn: str | None, *, interval: float, output: str) -> None:
    """Follow a job until it ends: a live bar on a terminal, elsewhere a line for each change.

    Exits with 0 when the job is completed, with 1 when it failed or was cancelled. Ctrl-C ends the watching, not the
    job.

    \b
    Examples:
      perdure jobs watch 17
      perdure jobs watch 17 --output json      an object a line for each change
      perdure jobs watch 17 && deploy          only once it is completed
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    app = codeless(target, dsn)
    if output == "table" and is_terminal():
        with _Bar() as bar:
            state = run(_follow(app, job_id, interval, bar.show))
    else:
        show = _print_object if output == "json" else _print_words
        state = run(_follow(app, job_id, interval, show))
    if state is not JobState.COMPLETED:
        click.get_current_context().exit(_FAILED)


async def _follow(app: App, job_id: int, interval_seconds: float, show: Show) -> JobState:
    """Show the job now, at each change and at its end; return its final state."""
    pace = Pace()
    shown: object = None
    async with app:
        job = await app.job(job_id)
        while True:
            pace.see(job.progress)
            seen = (job.state, job.attempt, job.progress, job.last_error, job.scheduled_at, job.cancel_requested)
            if seen != shown:
                show(job, pace)
                shown = seen
            if job.state.is_final:
                return job.state
            # Waits for the end, so that a short job isn't waited for longer than it takes; and reads the job anew.
            with contextlib.suppress(TimeoutError, JobEndedBadly):
                await job.result(timeout=interval_seconds)


def _print_object(job: Job[Any, Any, Any, Any], _pace: Pace) -> None:
    print_json(views.as_json(job), indent=None)


def _print_words(job: Job[Any, Any, Any, Any], pace: Pace) -> None:
    print_line(f"job {job.id} ({job.name}): {_in_words(job, pace)}")


def _in_words(job: Job[Any, Any, Any, Any], pace: Pace) -> str:
    words = [job.state.value + (", cancel requested" if job.cancel_requested else "")]
    if job.attempt > 1:
        words.append(f"attempt {job.attempt}")
    if job.state in {JobState.RETRYING, JobState.SUSPENDED} and job.scheduled_at is not None:
        words.append(f"until {time_text(job.scheduled_at)}")
    if job.progress is not None:
        words.append(views.progress_text(job.progress, str(pace) if job.state is JobState.RUNNING else ""))
    if job.last_error is not None:
        words.append(job.last_error)
    return ", ".join(words)


class _Bar:
    """The live bar: while this block is open it keeps the terminal's last lines."""

    def __init__(self) -> None:
        terminal = console()
        width = 20 if terminal.width >= _WIDE else 10
        # Texts that come from a job are fields, shown by columns that read no markup.
        self._progress = Progress(
            TextColumn("job {task.fields[number]}", markup=False),
            BarColumn(bar_width=None, table_column=Column(min_width=width, max_width=width)),
            # One line, whatever is said: what doesn't fit is cut off.
            TextColumn("{task.fields[words]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            console=terminal,
            expand=True,
        )
        self._bar = self._progress.add_task("", total=None, visible=False, number="", words="")

    def show(self, job: Job[Any, Any, Any, Any], pace: Pace) -> None:
        """Show how the job stands."""
        progress = job.progress
        total = None if progress is None else progress.total
        done = 0.0 if progress is None else progress.done
        if job.state is JobState.COMPLETED:
            total = done = total or done or 1.0
        self._progress.update(
            self._bar,
            number=f"{job.id} {printable(job.name)}",
            total=total,
            completed=done,
            words=printable(_in_words(job, pace)),
            visible=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()
