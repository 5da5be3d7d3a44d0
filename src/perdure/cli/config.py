"""`perdure config`: the effective settings, and where each came from.

Without an app it shows what one made here with no arguments would use.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from perdure.cli.errors import Failure, Misunderstood
from perdure.cli.output import output_option, print_json, print_table
from perdure.cli.target import load_app
from perdure.config import load
from perdure.errors import ConfigError

if TYPE_CHECKING:
    from perdure.config import Config

__all__ = ["config"]

_NO_DSN = "none: the embedded PostgreSQL in ./.perdure"


@click.command
@click.argument("target", metavar="[MODULE:APP]", required=False)
@click.option(
    "--file",
    type=Path,
    metavar="PATH",
    help="Settings file (.toml or .json) instead of ./perdure.toml or ./pyproject.toml.",
)
@output_option
def config(target: str | None, file: Path | None, output: str) -> None:
    """Print every setting, its value and where it came from. Passwords are masked.

    \b
    Examples:
      perdure config                         what an app made here with no arguments would use
      perdure config shop:app                what `app` in shop.py uses, its arguments included
      perdure config --file settings.json --output json
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    rows = _effective(target, file).describe()
    if output == "json":
        print_json([row._asdict() for row in rows])
    else:
        cells = [(key, _NO_DSN if value is None else _cell(value), origin) for key, value, origin in rows]
        print_table(["key", "value", "from"], cells)


def _effective(target: str | None, file: Path | None) -> Config:
    if target is None:
        try:
            return load(file=file)
        except ConfigError as error:
            raise Failure(str(error)) from error
    if file is not None:
        message = f"--file and {target}: give one of them, since an app knows its file"
        raise Misunderstood(message)
    return load_app(target).config


def _cell(value: str | bool | int | list[float]) -> str:  # noqa: FBT001 - a setting that is on or off
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
