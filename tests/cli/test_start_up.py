"""`perdure --help` is there at once, and tells the truth about what there is."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import click
import pytest

from perdure.cli import main
from perdure.cli.groups import Entry, LazyGroup
from perdure.cli.jobs import jobs
from perdure.version import __version__

if TYPE_CHECKING:
    from tests.cli.conftest import CommandLine
    from tests.support.processes import Processes

_HEAVY = ["psycopg", "psycopg_pool", "msgspec", "rich", "asyncio", "perdure.app", "perdure.worker", "perdure.config"]


def _entries() -> list[tuple[str, Entry]]:
    assert isinstance(main, LazyGroup)
    assert isinstance(jobs, LazyGroup)
    found = [*main.entries.items(), *((f"jobs {name}", entry) for name, entry in jobs.entries.items())]
    # The demo and the embedded database are made elsewhere; once they are there, they are tested like all others.
    return [(name, entry) for name, entry in found if importlib.util.find_spec(entry.place.partition(":")[0])]


def test_help_loads_neither_the_driver_nor_the_codec_nor_any_command(processes: Processes) -> None:
    code = (
        "import sys\n"
        "from perdure.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        f"print('loaded:', [name for name in {_HEAVY!r} if name in sys.modules])\n"
    )
    process = processes.python("-c", code)
    assert process.wait() == 0, process.output
    assert "loaded: []" in process.output, process.output


def test_an_app_that_only_starts_jobs_loads_no_worker_and_no_server(processes: Processes) -> None:
    unneeded = ["perdure.worker", "perdure.embedded", "perdure.cli", "perdure.demo", "perdure.machine", "pydantic"]
    code = (
        "import sys\n"
        "from perdure import App\n"
        "App('postgresql://nowhere/jobs')\n"
        f"print('loaded:', [name for name in {unneeded!r} if name in sys.modules])\n"
    )
    process = processes.python("-c", code)
    assert process.wait() == 0, process.output
    assert "loaded: []" in process.output, process.output


def test_version(perdure: CommandLine) -> None:
    assert perdure("--version").out == f"perdure {__version__}\n"


def test_help_lists_every_command_with_its_summary(perdure: CommandLine) -> None:
    shown = perdure("--help").out
    assert isinstance(main, LazyGroup)
    for name, entry in main.entries.items():
        assert any(line.split(maxsplit=1) == [name, entry.summary] for line in shown.splitlines()), name


@pytest.mark.parametrize(("name", "entry"), [pytest.param(*found, id=found[0]) for found in _entries()])
def test_every_command_is_where_its_entry_says_and_starts_its_help_with_its_summary(name: str, entry: Entry) -> None:
    module, _, attribute = entry.place.partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert " ".join((command.help or "").split()).startswith(entry.summary.removesuffix("."))


@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name, _entry in _entries()])
def test_every_command_has_help_with_examples(perdure: CommandLine, name: str) -> None:
    ended = perdure.inside(*name.split(), "--help")
    assert ended.code == 0
    assert "Examples:\n" in ended.out
    assert f"    perdure {name}" in ended.out
    assert "--debug" in ended.out


def test_an_unknown_command_is_a_usage_error(perdure: CommandLine) -> None:
    ended = perdure("wroker")
    assert ended.code == 2
    assert "No such command 'wroker'" in ended.err


def test_h_is_short_for_help(perdure: CommandLine) -> None:
    assert perdure.inside("jobs", "list", "-h").out == perdure.inside("jobs", "list", "--help").out
