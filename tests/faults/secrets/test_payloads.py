"""What is in a payload is in no line that a worker writes by itself, however its job fails."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.processes import Processes

_SECRET = "s3cr3t-in-a-payload"
# By name: what is stored before a worker comes; where that isn't the metadata alone.
_ROWS: dict[str, str] = {
    **dict.fromkeys(
        (
            "unreadable.number", "unreadable.colour", "unreadable.list", "unreadable.bounded", "nobody.knows",
            "upgraded", "raises", "raises.group", "raises.strangely", "asks", "declares", "too.large", "unstorable",
            "surprising",
            "too.large.checkpoint", "refused.result", "refused.checkpoint", "refused.altogether", "conflicts", "casts",
            "steps", "sleeps", "hears", "times.out", "stays",
        ),
        f'{{"secret": "{_SECRET}"}}',
    ),
    "unreadable.colour": f'"{_SECRET}"',
    "unreadable.bounded": f'"{_SECRET}"',
    "unreadable.list": f'[1, "{_SECRET}"]',
    "unreadable.checked": f'{{"secret": "{_SECRET}"}}',
    "unreadable.union": f'{{"type": "{_SECRET}"}}',
}  # fmt: skip
_START = """
    insert into background_tasks.jobs (scheduled_at, created_at, priority, queue, task, metadata, execution_metadata)
    values (now(), now(), 0, 'default', %s, %s, %s) returning id
"""
_SPOIL = f"""
    create table shops (shop text primary key);
    insert into background_tasks.bands values ('default', 0);
    update background_tasks.jobs set attempt = 1 where task = 'steps';
    alter table background_tasks.finished_jobs add constraint no_secret check (result::text not like '%{_SECRET}%');
    alter table background_tasks.finished_jobs add constraint nothing check (task <> 'refused.altogether');
    alter table background_tasks.jobs add constraint no_note check (execution_metadata::text not like '%{_SECRET}%');
    insert into background_tasks.steps (job_id, key, result)
        select id, case task when 'steps' then 'step' else 'nap' end,
            case task when 'steps' then '"{_SECRET}"' else '{{"until": "{_SECRET}"}}' end::json
        from background_tasks.jobs where task in ('steps', 'sleeps');
    insert into background_tasks.events (job_id, version, event)
        select id, 1, '{{"a": "{_SECRET}"}}' from background_tasks.jobs where task = 'hears';
"""
# Held by a worker that is lost, and past their deadlines: to be ended by others, which is refused.
_LOST = """
    update background_tasks.jobs
    set state = 2, worker_id = gen_random_uuid(), claim = 1, attempt = 1, cancel_requested = true
    where id = %s
"""
_LATE = "update background_tasks.jobs set deadline_at = now() - interval '1 s' where id = %s"
_ERRORS = """
    select task, coalesce(last_error, ''), coalesce(error::text, '') from background_tasks.all_jobs
    where task <> 'neighbour'
"""


@pytest.mark.timeout(120)
def test_no_line_of_a_worker_holds_what_is_in_a_payload(
    processes: Processes, migrated_database: str, tmp_path: Path
) -> None:
    shutil.copy(Path(__file__).with_name("leaky.py"), tmp_path)
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        for name, metadata in _ROWS.items():
            checkpoint = "{}" if name.endswith("checkpoint") else "null"
            connection.execute(_START, [name, metadata, checkpoint])
        for statement in (_LOST, _LATE):
            (job_id,) = connection.execute(_START, ["refused.altogether", f'"{_SECRET}"', "null"]).fetchone() or (0,)
            connection.execute(statement.encode(), [job_id])
        connection.execute(_SPOIL.encode())
        worker = processes.perdure("worker", "leaky:app", env={"PERDURE_DSN": migrated_database}, cwd=tmp_path)
        worker.wait_for_line("^ready")

        def silent() -> list[str]:
            errors = connection.execute(_ERRORS).fetchall()
            return [task for task, line, error in errors if not (line or error or task == "refused.altogether")]

        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not silent(), "not all have failed", within_seconds=30)
        assert silent() == [], worker.output
        for line in ("can't be rescued", "a job that is past its deadline can't be ended", "not even its failure"):
            worker.wait_for_line(line, within_seconds=60)
        connection.execute(_START, ["neighbour", "null", "null"])
        wait_until(lambda: _is_done(connection, "neighbour"), "the neighbour isn't done", within_seconds=60)
        worker.terminate()
        assert worker.wait(within_seconds=60) == 0
        told = [task for task, line, error in connection.execute(_ERRORS) if _SECRET in line + error]
    assert not [line for line in worker.output.splitlines() if _SECRET in line]
    assert "Failing row" not in worker.output
    assert len(told) > 8, told  # the rows, which hold it anyway, tell what the log doesn't
    for kind in ("raised: ValueError; its last_error says more", "PayloadUndecodable; its last_error says more"):
        assert kind in worker.output


def _is_done(connection: psycopg.Connection[Any], task: str) -> bool:
    query = "select 1 from background_tasks.finished_jobs where task = %s"
    return connection.execute(query, [task]).fetchone() is not None


@pytest.mark.timeout(120)
def test_the_details_of_a_refused_row_are_in_no_line_of_a_command(
    processes: Processes, migrated_database: str, tmp_path: Path
) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute("alter table background_tasks.jobs add constraint none check (task <> 'refused')")
    arguments = ("jobs", "start", "refused", f'"{_SECRET}"', "--execution-metadata", "null")
    started = processes.perdure(*arguments, env={"PERDURE_DSN": migrated_database}, cwd=tmp_path)
    assert started.wait() == 1
    assert 'violates check constraint "none"' in started.output
    assert _SECRET not in started.output
