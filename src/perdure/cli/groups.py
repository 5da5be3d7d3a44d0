"""Groups of commands that load a command's module when it is called, and turn every failure into one line.

`perdure --help` is there at once: it lists commands by the summaries of their entries and imports none of them.
"""

from __future__ import annotations

import importlib
import io
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from perdure.cli.errors import as_click_error, print_traceback

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Entry", "LazyGroup", "RootGroup", "is_debugging"]

_DEBUG: Final = "perdure.cli.debug"


class Entry(NamedTuple):
    """A command that isn't loaded yet.

    Attributes:
        place: Its module and its name there: `"perdure.cli.worker:worker"`.
        summary: What it does, in a line: the first sentence of its help.
    """

    place: str
    summary: str


class LazyGroup(click.Group):
    """A group that knows its commands by their entries, in the order in which they are listed."""

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **options: Any) -> None:
        """Make a group of these commands; the rest is `click.Group`'s."""
        super().__init__(*args, **options)
        self.entries = dict(entries)
        _add_debug_option(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands."""
        del ctx
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        del ctx
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        _add_debug_option(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.entries.items()])


class RootGroup(LazyGroup):
    """The group that everything starts from."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line, whatever the encoding of the streams and the name of the script."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        options.setdefault("prog_name", "perdure")
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever it raises ends as one line, after its traceback with --debug."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if is_debugging(ctx):
                print_traceback(error)
            shown = as_click_error(error)
            if shown is error:
                raise
            raise shown from error


def is_debugging(ctx: click.Context) -> bool:
    """Whether --debug was given, at whichever place."""
    return bool(ctx.meta.get(_DEBUG))


def _remember_debug(ctx: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's call
    if value:
        ctx.meta[_DEBUG] = True


def _add_debug_option(command: click.Command) -> None:
    """Let --debug stand wherever its user remembers it: before the command, or after."""
    if not any(parameter.name == "debug" for parameter in command.params):
        command.params.append(
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                callback=_remember_debug,
                help="Show tracebacks, and log all there is to log.",
            )
        )
    if isinstance(command, click.Group) and not isinstance(command, LazyGroup):
        for subcommand in command.commands.values():
            _add_debug_option(subcommand)
