"""A password is in no line of any command, and in no `repr`, however its connection string is written and fails."""

from __future__ import annotations

import itertools
import random
import traceback
from typing import TYPE_CHECKING

import pytest

from perdure import App
from perdure.config import load
from perdure.connections import connect
from perdure.errors import ConfigError, DatabaseUnavailable
from tests.cli.conftest import SHOP, CommandLine
from tests.support.tiers import SEED, count

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Processes

_PASSWORD = "s3cr3t-in-a-dsn"
_DSNS = (
    f"postgresql://nobody:{_PASSWORD}@127.0.0.1:1/nowhere",
    f"postgresql://nobody:{_PASSWORD}%40x%2F@127.0.0.1:1/nowhere?connect_timeout=1",
    f"host=127.0.0.1 port=1 user=nobody password={_PASSWORD}",
    f"host=127.0.0.1 port=1 password='{_PASSWORD} with \\' quotes' dbname=nowhere",
    f"postgresql://127.0.0.1:1/nowhere?user=nobody&password={_PASSWORD}",
)
_BROKEN = (
    f"postgresql://nobody:{_PASSWORD}/x@127.0.0.1:1/nowhere",
    f"postgresql://nobody:{_PASSWORD}@x@127.0.0.1:port/nowhere",
    f"postgresql://nobody:{_PASSWORD}%zz@127.0.0.1/nowhere",
    f"postgresql://nobody:[{_PASSWORD}@127.0.0.1/nowhere",
    f"host=127.0.0.1 password={_PASSWORD} more",
    f"host=127.0.0.1 password='{_PASSWORD}",
    f"host=127.0.0.1 pasword={_PASSWORD}",
    f"mysql://nobody:{_PASSWORD}@127.0.0.1/nowhere",
    f"{_PASSWORD}",
)
_COMMANDS = (
    ["jobs", "list"],
    ["jobs", "show", "1"],
    ["jobs", "watch", "1"],
    ["jobs", "start", "--app", "shop:app", "orders.wait"],
    ["jobs", "proceed", "1"],
    ["jobs", "send", "1", "--unchecked", "1"],
    ["jobs", "cancel", "1"],
    ["jobs", "retry", "1"],
    ["migrate"],
    ["migrate", "--check"],
    ["migrate", "--roles"],
    ["config"],
    ["config", "shop:app"],
    ["config", "--output", "json"],
    ["doctor"],
    ["doctor", "--output", "json"],
    ["doctor", "shop:app"],
    ["check-resume", "shop:app"],
)


@pytest.fixture
def perdure(tmp_path: Path) -> CommandLine:
    """The command line in a folder with an app."""
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    return CommandLine(tmp_path, {})


@pytest.mark.timeout(180)
@pytest.mark.parametrize("command", [pytest.param(command, id=" ".join(command)) for command in _COMMANDS])
def test_no_command_prints_a_password(perdure: CommandLine, command: list[str]) -> None:
    tries = list(itertools.product((*_DSNS, *_BROKEN), ([], ["--debug"])))
    for dsn, debug in random.Random(f"{SEED} {command}").sample(tries, count(push=8, nightly=len(tries))):
        ended = perdure.inside(*command, *debug, PERDURE_DSN=dsn)
        assert _PASSWORD not in ended.out + ended.err, dsn
        assert "should not have happened" not in ended.err, dsn


def test_nor_as_an_argument_nor_in_a_file(perdure: CommandLine) -> None:
    for dsn in (*_DSNS, *_BROKEN):
        ended = perdure.inside("jobs", "list", "--debug", "--dsn", dsn)
        assert _PASSWORD not in ended.out + ended.err, dsn
        text = dsn.replace("\\", "\\\\").replace('"', '\\"')
        (perdure.folder / "perdure.toml").write_text(f'dsn = "{text}"\n', encoding="utf-8")
        for command in (["config"], ["jobs", "list", "--debug"]):
            ended = perdure.inside(*command)
            assert _PASSWORD not in ended.out + ended.err, dsn


def test_a_worker_that_waits_for_its_database_doesnt(processes: Processes, perdure: CommandLine) -> None:
    for dsn in _DSNS[:3]:
        worker = processes.perdure("worker", "shop:app", "--debug", env={"PERDURE_DSN": dsn}, cwd=perdure.folder)
        worker.wait_for_line("no connection to the database")
        worker.terminate()
        assert worker.wait() == 0
        assert _PASSWORD not in worker.output


@pytest.mark.parametrize("dsn", _DSNS)
async def test_no_repr_and_no_traceback_does(dsn: str) -> None:
    app = App(dsn)
    shown = [repr(app), str(app), repr(app.config), str(app.config), repr(app.config.dsn), f"{app.config.describe()}"]
    with pytest.raises(DatabaseUnavailable) as refused:
        await app.open()
    shown += ["".join(traceback.format_exception(refused.value)), repr(refused.value)]
    with pytest.raises(DatabaseUnavailable) as refused:
        await connect(app.dsn)
    shown.append("".join(traceback.format_exception(refused.value)))
    assert not [text for text in shown if _PASSWORD in text]


@pytest.mark.parametrize("dsn", _BROKEN)
def test_no_refusal_of_the_configuration_does(dsn: str) -> None:
    try:
        config = load(dsn=dsn)
    except ConfigError as error:
        shown = "".join(traceback.format_exception(error))
    else:
        shown = repr(config)
    assert _PASSWORD not in shown
