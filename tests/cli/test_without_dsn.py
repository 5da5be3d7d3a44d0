"""Without a dsn every command works on the embedded PostgreSQL of the current folder."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import SHOP, CommandLine
from tests.support.account import public_folder

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def perdure_embedded() -> Iterator[CommandLine]:
    """The command line in a folder of its own that has an app and no settings; its server is stopped afterwards."""
    folder = public_folder("perdure-cli-")
    (folder / "shop.py").write_text(SHOP, encoding="utf-8")
    perdure = CommandLine(folder, {})
    yield perdure
    stopped = perdure("db", "stop")
    shutil.rmtree(folder)
    assert stopped.code == 0, stopped.err


def test_jobs_are_started_and_listed_and_the_doctor_is_content(perdure_embedded: CommandLine) -> None:
    started = perdure_embedded("jobs", "start", "--app", "shop:app", "orders.approve")
    assert (started.code, started.out) == (0, "job 1 (orders.approve) started\n"), started.err
    assert "no database is configured, so an embedded PostgreSQL" in started.err
    listed = perdure_embedded("jobs", "list", "--output", "json")
    assert [job["id"] for job in listed.json] == [1], "what is said of the embedded server is kept out of the output"
    assert perdure_embedded("migrate", "shop:app").out == "schema 'background_tasks' is up to date\n"
    doctor = perdure_embedded("doctor")
    assert doctor.code == 0, doctor.out
    assert doctor.out.startswith("ok      connection: the embedded PostgreSQL in ./.perdure (default)\n")
