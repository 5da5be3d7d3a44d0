"""`perdure db`: start, stop and look at the embedded PostgreSQL of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from perdure import embedded
from perdure.cli.output import note, output_option, print_fields, print_json, print_line

if TYPE_CHECKING:
    from collections.abc import Callable

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["db"]

_NOT_RUNNING: Final = 1


def _folder_option(command: F) -> F:
    """Add `--folder`."""
    return click.option(
        "--folder",
        type=click.Path(path_type=Path),
        default=embedded.DEFAULT_FOLDER,
        show_default=True,
        help="Where the server lives.",
    )(command)


@click.group
def db() -> None:
    """Start and stop the embedded PostgreSQL.

    It needs no care: the first process that has no other database starts it, and a few seconds after the last one has
    gone it stops. These commands are for looking into it, and for ending it now.

    \b
    Examples:
      perdure db status
      psql "$(perdure db url)"
      perdure db start              let it run until `perdure db stop`
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped


@db.command
@_folder_option
def start(folder: Path) -> None:
    """Start the server, and let it run until `perdure db stop`; prints its URL."""
    print_line(embedded.pin(folder))


@db.command
@_folder_option
def stop(folder: Path) -> None:
    """Stop the server, even while it is used, and wait until it has ended."""
    was_in_use = embedded.look(folder).is_in_use
    if not embedded.stop(folder):
        note(f"no embedded PostgreSQL runs in {embedded.look(folder).folder}")
    elif was_in_use:
        note("it was in use: the processes that use it have no database until it is started again")


@db.command
@_folder_option
def url(folder: Path) -> None:
    """Print the server's URL; starts the server if it has stopped, and it stays while anybody is connected."""
    print_line(embedded.wake(folder))


@db.command
@_folder_option
@output_option
def status(folder: Path, *, output: str) -> None:
    """Show whether the server runs, where, and for whom; exits with 1 when it doesn't."""
    found = embedded.look(folder)
    running = found.state is not None
    shown: dict[str, str | bool | None] = {
        "state": "running" if running else "starting or stopping" if found.is_starting else "stopped",
        "url": found.state.url if found.state else None,
        "version": found.state.version if found.state else None,
        "used": "by running processes" if found.is_in_use else "no",
        "kept": "until `perdure db stop`" if found.is_pinned else "while it is used",
        "folder": str(found.folder),
        "data": str(found.data),
        "log": str(found.log),
    }
    if output == "json":
        shown |= {"used": found.is_in_use, "kept": found.is_pinned}
        print_json(shown)
    else:
        print_fields((name, value) for name, value in shown.items() if isinstance(value, str))
    if not running:
        click.get_current_context().exit(_NOT_RUNNING)
