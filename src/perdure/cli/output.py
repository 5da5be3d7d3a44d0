"""How results are shown: tables for people, JSON for programs, on a terminal and off it.

Other people's text is never read as markup. Colours are the terminal's alone. Knows no jobs: `views` does.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perdure.cli.text import json_text, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = [
    "console",
    "is_terminal",
    "note",
    "output_option",
    "print_fields",
    "print_json",
    "print_line",
    "print_styled",
    "print_table",
    "time_text",
]

_UNBOUNDED: Final = 1_000_000


def output_option(command: F) -> F:
    """Add `--output table|json`."""
    return click.option(
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="For people, or for programs.",
    )(command)


def console() -> Console:
    """Make a console on standard output, as wide as the lines are long when it is no terminal."""
    made = Console(markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = _UNBOUNDED
    return made


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print a value as JSON."""
    click.echo(json_text(value, indent=indent))


def print_line(text: str) -> None:
    """Print a line on standard output."""
    click.echo(printable(text))


def print_styled(*parts: tuple[str, str]) -> None:
    """Print a line of texts, each in its style where that can be shown."""
    line = Text.assemble(*((printable(text), style) for text, style in parts))
    console().print(line, soft_wrap=True)


def note(text: str) -> None:
    """Print a line on standard error: what is worth knowing and isn't the result."""
    click.echo(printable(text), err=True)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, styles: Sequence[str] = ()) -> None:
    """Print rows under a header, a line each; on a terminal that is too narrow the widest cells are cut short.

    Args:
        header: The columns' names.
        rows: Their cells.
        styles: A style for each row, on a terminal.
    """
    shown = console()
    table = Table(
        box=box.SIMPLE_HEAD if shown.is_terminal else None,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1 if shown.is_terminal else 2, 0, 0),
        header_style="bold",
    )
    for name in header:
        table.add_column(_cell(name))
    for number, row in enumerate(rows):
        table.add_row(*map(_cell, row), style=styles[number] if styles else None)
    if shown.is_terminal:
        shown.print(table, crop=False)
        return
    with shown.capture() as captured:
        shown.print(table, crop=False)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def _cell(text: str) -> Text:
    # Said of the cell and not of its column: narrow columns of one line would be squeezed as much as the wide ones.
    return Text(printable(text), overflow="ellipsis", no_wrap=True)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values; a value of many lines is indented under its name."""
    shown, pairs = console(), list(fields)
    width = max((len(name) for name, _value in pairs), default=0)
    for name, value in pairs:
        lines = printable(value, keep="\n").splitlines() or [""]
        text = Text(name.ljust(width + 2), style="bold", end="")
        shown.print(text, Text(("\n" + " " * (width + 2)).join(lines)), sep="", soft_wrap=True)


def time_text(time: datetime | None) -> str:
    """Write a point in time for people, in their own zone; nothing for None."""
    return "" if time is None else time.astimezone().isoformat(sep=" ", timespec="seconds")


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()
