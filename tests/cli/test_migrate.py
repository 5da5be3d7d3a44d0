"""`perdure migrate` brings a schema up to date and says what it did; `--check` says whether there is anything to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from perdure.store.migrate import migrations

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import CommandLine

_TITLES = [f"{migration.number:03}_{migration.name}" for migration in migrations()]


def test_what_is_applied_is_told_and_the_second_time_there_is_nothing_to_do(
    perdure: CommandLine, every_database: str
) -> None:
    first = perdure.inside("migrate", "--dsn", every_database)
    assert (first.code, first.out.splitlines()) == (0, [f"applied {title}" for title in _TITLES])
    second = perdure.inside("migrate", "--dsn", every_database)
    assert (second.code, second.out) == (0, "schema 'background_tasks' is up to date\n")


def test_check_changes_nothing_and_exits_with_1_when_behind(perdure: CommandLine, database: str) -> None:
    behind = perdure.inside("migrate", "--check", "--dsn", database)
    assert behind.code == 1
    assert "doesn't exist in this database yet" in behind.err
    with psycopg.connect(database) as connection:
        row = connection.execute("select to_regnamespace('background_tasks')").fetchone()
        assert row == (None,)
    perdure.inside("migrate", "--dsn", database)
    assert perdure.inside("migrate", "--check", "--dsn", database).code == 0


def test_the_apps_own_schema_is_migrated(perdure: CommandLine, folder: Path, database: str) -> None:
    folder.joinpath("mine.py").write_text(
        f"from perdure import App\napp = App({database!r}, persistence={{'schema_name': 'my jobs'}})\n",
        encoding="utf-8",
    )
    assert perdure.inside("migrate", "mine:app").code == 0
    with psycopg.connect(database) as connection:
        assert connection.execute('select count(*) from "my jobs".jobs').fetchone() == (0,)


def test_sql_needs_no_database_and_can_be_run_by_hand(perdure: CommandLine, database: str) -> None:
    script = perdure.inside("migrate", "--sql")
    assert script.code == 0
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(script.out.encode())
    assert perdure.inside("migrate", "--check", "--dsn", database).code == 0


def test_check_and_sql_contradict_each_other(perdure: CommandLine) -> None:
    ended = perdure.inside("migrate", "--check", "--sql")
    assert (ended.code, ended.err) == (2, "Error: --check and --sql: give one of them\n")
