"""What went wrong, in one line on standard error, and the exit code: 1 for what failed, 2 for what wasn't understood.

Says nothing of its own about databases and jobs: perdure's errors and the driver's know what to say.
"""

from __future__ import annotations

import errno
import sys
import traceback
from typing import TYPE_CHECKING, cast

import click

from perdure.cli.text import printable
from perdure.errors import PerdureError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Failure", "Misunderstood", "as_click_error", "print_traceback"]


class Failure(click.ClickException):
    """A command that failed; click prints the message and exits with 1."""

    exit_code = 1

    def format_message(self) -> str:
        """Escape what a terminal might take for commands: errors quote other people's text."""
        return printable(self.message, keep="\n")


class Misunderstood(Failure):
    """Arguments that can't be meant so; exit code 2, without the lines on usage that click adds for its own checks."""

    exit_code = 2


def as_click_error(error: Exception) -> Exception:
    """Turn what a command raised into what click shows as a line; click's own errors stay as they are."""
    error = _only(error)
    match error:
        case click.ClickException() | click.exceptions.Exit() | click.Abort():
            return error
        case OSError(errno=errno.EPIPE):
            return error  # the reader has gone (`perdure jobs list | head`): click ends quietly
        case PerdureError():
            return Failure(str(error))
        case _ if _is_of_driver(error):
            # Without its details, which may be a whole row.
            said = getattr(getattr(error, "diag", None), "message_primary", None)
            return Failure(f"the database said: {said or _one_line(error)}")
        case _:
            kind = type(error).__qualname__
            hint = "this should not have happened; --debug shows where it did"
            return Failure(f"{kind}: {_one_line(error)} ({hint})")


def print_traceback(error: BaseException) -> None:
    """Print the traceback of an error, and of what it came from, unless it is nothing but click's."""
    if isinstance(error, click.exceptions.Exit | click.Abort):
        return
    if isinstance(error, click.ClickException) and error.__cause__ is None:
        return
    traceback.print_exception(error, file=sys.stderr)


def _only(error: Exception) -> Exception:
    """Take an error out of the groups that are around it alone."""
    while len(inside := _inside(error)) == 1:
        error = inside[0]
    return error


def _inside(error: Exception) -> Sequence[Exception]:
    return cast("ExceptionGroup[Exception]", error).exceptions if isinstance(error, ExceptionGroup) else ()


def _is_of_driver(error: Exception) -> bool:
    # The command line doesn't import the driver; where it isn't loaded, no error can be its.
    driver = sys.modules.get("psycopg")
    return driver is not None and isinstance(error, driver.Error)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
