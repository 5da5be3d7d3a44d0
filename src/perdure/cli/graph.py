"""`perdure graph`: a state machine's graph, as Mermaid or drawn by Graphviz. Connects to nothing.

What is in the graph is read in `perdure.machine.drawing`.
"""

from __future__ import annotations

import subprocess
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

from perdure.cli.errors import Failure, Misunderstood
from perdure.cli.target import load_app
from perdure.machine.drawing import graph as graph_of

if TYPE_CHECKING:
    from perdure.app import App
    from perdure.machine.drawing import Graph

__all__ = ["graph"]

_DRAWN: Final = ("svg", "png")
_SUFFIXES: Final = {".svg": "svg", ".png": "png", ".mmd": "mermaid", ".mermaid": "mermaid"}
_DOT_SECONDS: Final = 60


@click.command
@click.argument("names", metavar="[MODULE:APP] TASK", nargs=-1, required=True)
@click.option("--app", "target", metavar="MODULE:APP", help="The app, when it isn't the first argument.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["mermaid", *_DRAWN]),
    help="Mermaid needs nothing; the others need Graphviz. By default what FILE ends with, or Mermaid.",
)
@click.option(
    "--output", "file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write it there."
)
def graph(names: tuple[str, ...], target: str | None, file_format: str | None, file: Path | None) -> None:
    """Draw the graph of a state machine.

    It shows the states, what may follow each, where it waits and how it ends, as the return annotations of its handlers
    say. Mermaid is a text that GitHub and many others draw where it stands in a ```mermaid block.

    \b
    Examples:
      perdure graph shop:app orders.fulfil                          Mermaid, on standard output
      perdure graph shop:app orders.fulfil --output fulfil.svg      drawn by Graphviz
      perdure graph shop:app orders.fulfil --format png > it.png
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    app, task_name = _read_names(names, target)
    found = _graph(app, task_name)
    if file_format is None:
        file_format = "mermaid" if file is None else _format_of(file)
    data = found.mermaid().encode() if file_format == "mermaid" else _draw(found, file_format)
    if file is not None:
        _write(file, data)
    elif file_format == "png" and sys.stdout.isatty():
        message = "a PNG isn't for a terminal: give --output FILE"
        raise Misunderstood(message)
    else:
        click.echo(data, nl=False)


def _read_names(names: tuple[str, ...], target: str | None) -> tuple[App, str | None]:
    """Tell the app from the task; None is the app's only machine."""
    match names, target:
        case (app_name, task_name), None:
            return load_app(app_name), task_name
        case (task_name,), str():
            return load_app(target), task_name
        case (name,), None if ":" in name:
            return load_app(name), None
        case (task_name,), None:
            message = f"which app has the task {task_name!r}? perdure graph shop:app {task_name}, for `app` in shop.py"
            raise Misunderstood(message)
        case _:
            message = "one app and one task: perdure graph shop:app orders.fulfil"
            raise Misunderstood(message)


def _graph(app: App, task_name: str | None) -> Graph:
    machines = [name for name, task in app.tasks.items() if task.machine is not None]
    if task_name is None:
        if len(machines) != 1:
            message = "which task? " + _known(machines)
            raise Misunderstood(message)
        task_name = machines[0]
    if task_name not in app.tasks:
        near = get_close_matches(task_name, app.tasks, n=1)
        message = f"the app has no task {task_name!r}; " + (f"did you mean {near[0]!r}?" if near else _known(machines))
        raise Misunderstood(message)
    if task_name not in machines:
        message = f"the task {task_name!r} is no StateMachine, so it has no graph; {_known(machines)}"
        raise Misunderstood(message)
    return graph_of(app.tasks[task_name])


def _known(machines: list[str]) -> str:
    return f"the app's machines: {', '.join(sorted(machines))}" if machines else "the app has no StateMachine"


def _format_of(file: Path) -> str:
    found = _SUFFIXES.get(file.suffix.lower())
    if found is None:
        message = f"{file}: its end doesn't tell what to write; give --format mermaid, svg or png"
        raise Misunderstood(message)
    return found


def _draw(graph: Graph, file_format: str) -> bytes:
    """Have Graphviz draw it.

    Raises:
        Failure: It isn't there, or couldn't.
    """
    try:
        done = subprocess.run(  # noqa: S603 - nothing of it is anybody else's
            ["dot", f"-T{file_format}"],  # noqa: S607 - wherever it was installed
            input=graph.dot().encode(),
            capture_output=True,
            check=True,
            timeout=_DOT_SECONDS,
        )
    except FileNotFoundError:
        _refuse(file_format, "which isn't there")
    except subprocess.CalledProcessError as error:
        _refuse(file_format, f"which failed: {error.stderr.decode(errors='replace').strip() or error}")
    except (OSError, subprocess.TimeoutExpired) as error:
        _refuse(file_format, f"which failed: {error}")
    return done.stdout


def _refuse(file_format: str, why: str) -> NoReturn:
    message = (
        f"{file_format.upper()} is drawn by Graphviz's `dot`, {why}. Install Graphviz (apt-get install graphviz, "
        "brew install graphviz, or https://graphviz.org/download); --format mermaid always works"
    )
    raise Failure(message)


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        message = f"{file} can't be written: {error.strerror}"
        raise Failure(message) from error
