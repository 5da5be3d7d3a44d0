"""`perdure check-resume`: before a deploy, find the live jobs that the new code couldn't go on with. Changes nothing.

What is checked is the library's `app.check_resume()`. Here its findings are counted in groups, so that they take the
same room however many jobs there are.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from perdure.cli.access import run
from perdure.cli.jobs.pace import Pace
from perdure.cli.output import note, output_option, print_json, print_line, print_table
from perdure.cli.target import load_app
from perdure.cli.text import printable
from perdure.job import JobProgress
from perdure.resuming import ResumeProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from perdure.app import App
    from perdure.resuming import ResumeProblem

__all__ = ["Findings", "check_resume"]

_FAILED: Final = 1
_MOST_GROUPS: Final = 100
_MOST_IDS: Final = 5
_LINE_SECONDS: Final = 2.0
# A job's own problems and those of its events come within so many others.
_MOST_REMEMBERED: Final = 4_000
_HEADER: Final = ("task", "payload", "jobs", "first ids", "why")


@click.command("check-resume")
@click.argument("target", metavar="MODULE:APP")
@click.option("--strict", is_flag=True, help="Exit with 1 also when stored fields would be passed over.")
@output_option
def check_resume(target: str, *, strict: bool, output: str) -> None:
    """Find live jobs that new code couldn't go on with, before it is deployed.

    Decodes and upgrades, in memory, the metadata, the execution metadata and the unread events of every job that
    hasn't ended, with the code at hand, as a worker would. Lists what it couldn't read, and exits with 1 when there is
    any. Stored fields that the code doesn't have are listed, too: they would be passed over.

    Writes nothing: a role that may only select will do. Results of steps can't be checked: only a handler knows their
    types.

    \b
    Examples:
      perdure check-resume shop:app
      perdure check-resume shop:app --strict --output json
      PERDURE_DSN=postgresql://reader@db.example/shop perdure check-resume shop:app
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    app, findings = load_app(target), Findings()
    with _Bar() if sys.stderr.isatty() else _Lines() as display:
        run(_check(app, findings, display.show))
    if output == "json":
        print_json(findings.as_json())
    else:
        rows = findings.rows()
        if rows:
            styles = ["yellow" if group.resumes else "red" for group in findings.groups]
            print_table(_HEADER, rows, styles=styles)
        for line in findings.summary():
            print_line(line)
    note("Results of steps weren't checked: only a handler knows their types.")
    if findings.stuck.jobs or (strict and findings.losing.jobs):
        click.get_current_context().exit(_FAILED)


async def _check(app: App, findings: Findings, show: Callable[[ResumeProgress], None]) -> None:
    def see(progress: ResumeProgress) -> None:
        findings.progress = progress
        show(progress)

    async with app:
        async for problem in app.check_resume(see):
            findings.add(problem)


class _Group(NamedTuple):
    """What problems are counted by."""

    task: str
    payload: str
    reason: str
    resumes: bool


@dataclass
class _Count:
    """How many jobs, each once, and the first of them."""

    jobs: int = 0
    first: list[int] = field(default_factory=list[int])
    _seen: dict[int, None] = field(default_factory=dict[int, None])

    def add(self, job_id: int) -> None:
        """Count a job, unless it has been."""
        if job_id in self._seen:
            return
        self._seen[job_id] = None
        if len(self._seen) > _MOST_REMEMBERED:
            for old in list(self._seen)[: _MOST_REMEMBERED // 2]:
                del self._seen[old]
        self.jobs += 1
        if len(self.first) < _MOST_IDS:
            self.first.append(job_id)


class Findings:
    """The problems, counted by task, payload and reason.

    Attributes:
        groups: The counts, in the order in which they were first found.
        stuck: All jobs that wouldn't go on.
        losing: All that would, without something that is stored.
        progress: How far the check is.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.groups: dict[_Group, _Count] = {}
        self.stuck = _Count()
        self.losing = _Count()
        self.progress = ResumeProgress(0, 0, 0)

    def add(self, problem: ResumeProblem) -> None:
        """Count a problem."""
        payload = problem.payload.replace("_", " ")
        group = _Group(problem.task, payload, problem.reason, problem.resumes)
        if group not in self.groups and len(self.groups) >= _MOST_GROUPS:
            group = _Group("…", payload, f"other than the {_MOST_GROUPS} above", problem.resumes)
        self.groups.setdefault(group, _Count()).add(problem.job_id)
        (self.losing if problem.resumes else self.stuck).add(problem.job_id)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the cells under the header."""
        return [
            (group.task, group.payload, f"{count.jobs:,}", _ids(count), group.reason)
            for group, count in self.groups.items()
        ]

    def summary(self) -> Iterator[str]:
        """Say in a line or two what came of it."""
        seen = self.progress.jobs
        if self.stuck.jobs:
            yield f"{self.stuck.jobs:,} of {seen:,} live jobs would not resume with this code: they would wait."
        else:
            yield f"All {seen:,} live jobs would resume with this code." if seen else "There are no live jobs."
        if self.losing.jobs:
            yield f"Of {self.losing.jobs:,} something that is stored would be passed over."

    def as_json(self) -> dict[str, object]:
        """Return what `--output json` prints."""
        return {
            "jobs": self.progress.jobs,
            "events": self.progress.events,
            "not_resuming": self.stuck.jobs,
            "passed_over": self.losing.jobs,
            "problems": [
                {**group._asdict(), "jobs": count.jobs, "first_ids": count.first}
                for group, count in self.groups.items()
            ],
        }


def _ids(count: _Count) -> str:
    return ", ".join(map(str, count.first)) + (", …" if count.jobs > len(count.first) else "")


class _Display:
    """Tells on standard error how far it is."""

    def __init__(self) -> None:
        self._pace = Pace()

    def _words(self, progress: ResumeProgress) -> str:
        self._pace.see(JobProgress(progress.jobs, progress.total, None, datetime.now(UTC)))
        parts = [f"{progress.jobs:,} of {progress.total:,} live jobs checked"]
        if progress.events:
            parts.append(f"{progress.events:,} events")
        return ", ".join(filter(None, [*parts, str(self._pace)]))


class _Lines(_Display):
    """A line now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._next_at_seconds = 0.0

    def show(self, progress: ResumeProgress) -> None:
        """Print how far it is, unless that was just done."""
        words = self._words(progress)
        if time.monotonic() >= self._next_at_seconds:
            self._next_at_seconds = time.monotonic() + _LINE_SECONDS
            note(words)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""


class _Bar(_Display):
    """A live bar, taken away at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._progress = Progress(
            BarColumn(bar_width=None, table_column=Column(min_width=12, max_width=24)),
            TextColumn("{task.fields[words]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            console=Console(stderr=True, markup=False, emoji=False, highlight=False),
            expand=True,
            transient=True,
        )
        self._bar = self._progress.add_task("", total=None, words="")

    def show(self, progress: ResumeProgress) -> None:
        """Show how far it is."""
        words = printable(self._words(progress))
        self._progress.update(self._bar, completed=progress.jobs, total=max(progress.total, progress.jobs), words=words)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take it away."""
        self._progress.stop()
