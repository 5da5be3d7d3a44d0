"""How a demo is followed: on a terminal by a live bar under the lines of what happened, elsewhere by lines alone."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol, Self

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from perdure.cli.demo.words import in_words, modules
from perdure.cli.jobs.pace import Pace
from perdure.cli.output import console, print_line
from perdure.cli.text import printable
from perdure.demo.events import Begun, Comparing, Missed, Progressed, Struck, Survived, ZombieRefused
from perdure.job import JobProgress

if TYPE_CHECKING:
    from types import TracebackType

    from perdure.demo.events import Event

__all__ = ["Bar", "Display", "Lines"]

_LINE_SECONDS: Final = 1.0
_BAR_WIDTH: Final = 24


class Display(Protocol):
    """Shows what happens, inside of a block."""

    def show(self, event: Event) -> None:
        """Show what has happened."""
        ...


class _Base:
    """What both know of the run so far."""

    def __init__(self) -> None:
        self._began_at_seconds = time.monotonic()
        self._faults = 0
        self._seen_done = 0
        self._pace = Pace()

    def _line(self, event: Event) -> str | None:
        """The line to print of an event, if any, with the time that it came at."""
        if isinstance(event, Begun):
            self._faults = event.faults
        words = in_words(event, self._faults)
        return None if words is None else f"{self._seconds:5.1f} s  {printable(words)}"

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began_at_seconds

    def _speed(self, event: Progressed) -> str:
        """Rate and remaining time, faults and all."""
        if event.done > self._seen_done:
            self._seen_done = event.done
            self._pace.see(JobProgress(event.done, event.total, None, datetime.now(UTC)))
        return str(self._pace)


class Lines(_Base):
    """Plain lines: everything that happens, and in between once a second how far it is."""

    def __init__(self) -> None:
        """Begin."""
        super().__init__()
        self._told_done = 0
        self._next_at_seconds = 0.0

    def show(self, event: Event) -> None:
        """Print what has happened."""
        if isinstance(event, Progressed):
            self._show_progress(event)
        elif (line := self._line(event)) is not None:
            print_line(line)

    def _show_progress(self, event: Progressed) -> None:
        speed = self._speed(event)
        if event.done > self._told_done and self._seconds >= self._next_at_seconds:
            self._told_done, self._next_at_seconds = event.done, self._seconds + _LINE_SECONDS
            print_line(f"{self._seconds:5.1f} s  {', '.join(filter(None, [modules(event.done, event.total), speed]))}")

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""


class Bar(_Base):
    """A live bar in the terminal's last line, and above it a line for everything that happens."""

    def __init__(self) -> None:
        """Prepare; the bar is there inside the block."""
        super().__init__()
        self._progress = Progress(
            BarColumn(bar_width=None, table_column=Column(min_width=_BAR_WIDTH, max_width=_BAR_WIDTH)),
            TextColumn("{task.fields[words]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            console=console(),
            expand=True,
        )
        self._bar = self._progress.add_task("", total=None, visible=False, words="")
        self._last_fault = ""

    def show(self, event: Event) -> None:
        """Show what has happened."""
        match event:
            case Progressed():
                self._update(event.done, event.total, self._in_bar(event))
            case Comparing():
                self._update(event.done, event.total, f"{modules(event.done, event.total)} in one go, to compare with")
            case Struck():
                self._last_fault = f"fault {event.number} of {self._faults}: {event.kind.value}"
            case _:
                pass
        if (line := self._line(event)) is not None:
            self._progress.console.print(Text(line, style=_style(event)))

    def _in_bar(self, event: Progressed) -> str:
        waiting = "" if event.done == event.total else "waiting for a worker"
        parts = [
            modules(event.done, event.total),
            self._speed(event),
            f"attempt {event.attempt}" if event.attempt else "",
            waiting if event.pid is None else f"worker {event.pid}",
            self._last_fault,
        ]
        return ", ".join(filter(None, parts))

    def _update(self, done: int, total: int, words: str) -> None:
        self._progress.update(self._bar, completed=done, total=total, words=words, visible=True)

    def __enter__(self) -> Self:
        """Show the bar, from the first event on."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._progress.update(self._bar, visible=False)
        self._progress.stop()


def _style(event: Event) -> str:
    match event:
        case Struck():
            return "red"
        case Survived() | ZombieRefused():
            return "green"
        case Missed():
            return "yellow"
        case _:
            return ""
