"""`perdure config`: the effective settings, and where each came from.

Shows what a process started here would use; arguments that an application's code passes are not known to it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perdure.config import load
from perdure.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.config import Row

__all__ = ["config"]

_NO_DSN = "none: the embedded PostgreSQL in ./.perdure"


@click.command
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="Settings file (.toml or .json) instead of ./perdure.toml or ./pyproject.toml.",
)
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def config(file: Path | None, output: str) -> None:
    """Print every setting, its effective value and where it came from. Passwords are masked.

    \b
    Examples:
      perdure config
      perdure config --file settings.json --output json
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    try:
        rows = load(file=file).describe()
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        click.echo(json.dumps([row._asdict() for row in rows], indent=2, ensure_ascii=False))
    else:
        Console(soft_wrap=False).print(_table(rows))


def _table(rows: Iterable[Row]) -> Table:
    table = Table("key", "value", "from", box=None, pad_edge=False)
    for key, value, origin in rows:
        # Text, so that a schema named "[red]" is printed as it is.
        cells = (key, _NO_DSN if value is None else _cell(value), origin)
        table.add_row(*(Text(cell, overflow="fold") for cell in cells))
    return table


def _cell(value: str | int | list[float]) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)
