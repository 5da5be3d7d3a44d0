"""`perdure check-resume`: what new code couldn't go on with is found before it is deployed, and nothing is changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.cli.terminal import on_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import CommandLine
    from tests.support.cluster import Cluster

OLD = """\
from dataclasses import dataclass
from perdure import App, Context

app = App()

@dataclass
class Order:
    number: str

@dataclass
class Progress:
    page: int = 0
    token: str | None = None

@app.task("orders.import", events=str)
async def import_orders(ctx: Context[Order, Progress]) -> None: ...

@app.task("orders.gone")
async def gone(ctx: Context[None, None]) -> None: ...
"""

NEW = """\
from dataclasses import dataclass
from perdure import App, Context

app = App()

@dataclass
class Order:
    number: int

@dataclass
class Progress:
    page: int = 0
    cursor: str | None = None

def first(kind, data):
    match kind:
        case "metadata":
            return {"number": int(data["number"])}
        case "event":
            return {"said": data}
        case _:
            return data

@dataclass
class Said:
    said: str

@app.task("orders.import", version=2, upgrades={1: first}, events=Said)
async def import_orders(ctx: Context[Order, Progress]) -> None: ...
"""


@pytest.fixture
def shop(perdure_db: CommandLine) -> CommandLine:
    for name, code in {"old": OLD, "new": NEW}.items():
        (perdure_db.folder / f"{name}.py").write_text(code, encoding="utf-8")
    return perdure_db


@pytest.fixture
def start(shop: CommandLine) -> Callable[..., list[int]]:
    """Start jobs with the old code, and send events."""

    def made(name: str, *payloads: tuple[Any, Any], events: tuple[str, ...] = ()) -> list[int]:
        ids: list[int] = []
        with psycopg.connect(shop.environment["PERDURE_DSN"], autocommit=True) as connection:
            for metadata, checkpoint in payloads:
                row = connection.execute(
                    "insert into background_tasks.jobs "
                    "(scheduled_at, created_at, priority, queue, task, metadata, execution_metadata) "
                    "values (now(), now(), 0, 'default', %s, %s, %s) returning id",
                    [name, json.dumps(metadata), json.dumps(checkpoint)],
                ).fetchone()
                assert row is not None
                ids.append(row[0])
                for event in events:
                    connection.execute(
                        "insert into background_tasks.events (job_id, version, event) values (%s, 1, %s)",
                        [ids[-1], json.dumps(event)],
                    )
        return ids

    return made


def order(number: object = "17", **progress: object) -> tuple[Any, Any]:
    return {"number": number}, {"page": 0, "token": None, **progress}


def test_without_jobs_it_says_so_and_exits_with_zero(shop: CommandLine) -> None:
    done = shop.inside("check-resume", "new:app")
    assert (done.code, done.out) == (0, "There are no live jobs.\n")


def test_what_its_own_code_has_stored_resumes(shop: CommandLine, start: Callable[..., list[int]]) -> None:
    start("orders.import", order(), order(token="t7"), events=("hello",))
    done = shop.inside("check-resume", "old:app")
    assert (done.code, done.out) == (0, "All 2 live jobs would resume with this code.\n")
    assert "Results of steps weren't checked: only a handler knows their types." in done.err


def test_what_would_not_resume_is_listed_by_task_payload_and_reason_and_exits_with_one(
    shop: CommandLine, start: Callable[..., list[int]]
) -> None:
    good = start("orders.import", order(), order())
    bad = start("orders.import", *[order("A-17")] * 7)
    unknown = start("orders.gone", (None, None))
    checkpoint = start("orders.import", order(page="x"))
    done = shop.inside("check-resume", "new:app", "--output", "json")
    assert done.code == 1
    assert done.json == {
        "jobs": 11,
        "events": 0,
        "not_resuming": 9,
        "passed_over": 0,
        "problems": [
            {
                "task": "orders.import",
                "payload": "metadata",
                "reason": "metadata: its upgrade from version 1 to 2 raised ValueError: invalid literal for int() with "
                "base 10: 'A-17'",
                "resumes": False,
                "jobs": 7,
                "first_ids": bad[:5],
            },
            {
                "task": "orders.gone",
                "payload": "task",
                "reason": "no task named 'orders.gone' is registered in this app",
                "resumes": False,
                "jobs": 1,
                "first_ids": unknown,
            },
            {
                "task": "orders.import",
                "payload": "execution metadata",
                "reason": "execution metadata: page: expected int, got str (so the upgrades from version 1 to 2 made "
                "it)",
                "resumes": False,
                "jobs": 1,
                "first_ids": checkpoint,
            },
        ],
    }
    assert not set(good) & {job_id for problem in done.json["problems"] for job_id in problem["first_ids"]}


def test_the_table_holds_the_same(shop: CommandLine, start: Callable[..., list[int]]) -> None:
    bad = start("orders.import", *[order("A-17")] * 7)
    done = shop.inside("check-resume", "new:app")
    lines = done.out.splitlines()
    assert lines[0].split() == ["task", "payload", "jobs", "first", "ids", "why"]
    assert lines[1].startswith("orders.import  metadata  7     " + ", ".join(map(str, bad[:5])) + ", …")
    assert lines[-1] == "7 of 7 live jobs would not resume with this code: they would wait."
    assert done.code == 1


def test_unread_events_are_read_as_the_new_code_would(shop: CommandLine, start: Callable[..., list[int]]) -> None:
    ids = start("orders.import", order(), order(), events=("yes", "no"))
    assert shop.inside("check-resume", "new:app").code == 0
    with psycopg.connect(shop.environment["PERDURE_DSN"], autocommit=True) as connection:
        connection.execute("update background_tasks.events set version = 3 where job_id = %s", [ids[1]])
    done = shop.inside("check-resume", "new:app", "--output", "json")
    assert (done.code, done.json["events"], done.json["not_resuming"]) == (1, 4, 1)
    (problem,) = done.json["problems"]
    assert (problem["payload"], problem["jobs"], problem["first_ids"]) == ("event", 1, ids[1:])
    assert "written by version 3 of the task, and this code is version 2" in problem["reason"]


def test_events_of_a_task_that_takes_none_any_more_are_listed(
    shop: CommandLine, start: Callable[..., list[int]]
) -> None:
    (shop.folder / "none.py").write_text(OLD.replace(", events=str", ""), encoding="utf-8")
    start("orders.import", order(), events=("yes",))
    done = shop.inside("check-resume", "none:app")
    assert done.code == 1
    assert "event: the task 'orders.import' takes no events any more" in done.out


def test_a_stored_field_that_nothing_takes_is_listed_and_only_strict_minds(
    shop: CommandLine, start: Callable[..., list[int]]
) -> None:
    """The class of the case: a field was renamed, so the job would quietly begin at the beginning."""
    start("orders.import", order(token="t7"), order())
    done = shop.inside("check-resume", "new:app", "--output", "json")
    assert (done.code, done.json["not_resuming"], done.json["passed_over"]) == (0, 0, 1)
    (problem,) = done.json["problems"]
    assert problem["resumes"]
    assert problem["reason"] == (
        "execution metadata: token: stored, but the type has no such field (any more): it is passed over"
    )
    assert shop.inside("check-resume", "new:app", "--strict").code == 1


def test_finished_jobs_and_their_events_are_not_looked_at(shop: CommandLine, start: Callable[..., list[int]]) -> None:
    start("orders.import", order("A-17"), events=("x",))
    with psycopg.connect(shop.environment["PERDURE_DSN"], autocommit=True) as connection:
        connection.execute("delete from background_tasks.jobs")
    assert shop.inside("check-resume", "new:app").code == 0


def test_jobs_in_every_live_state_are(shop: CommandLine, start: Callable[..., list[int]]) -> None:
    ids = start("orders.import", *[order("A-17")] * 5)
    with psycopg.connect(shop.environment["PERDURE_DSN"], autocommit=True) as connection:
        for job_id, state in zip(ids, (0, 2, 3, 4, 5), strict=True):
            worker = "00000000-0000-0000-0000-000000000001" if state == 2 else None
            connection.execute(
                "update background_tasks.jobs set state = %s, worker_id = %s where id = %s", [state, worker, job_id]
            )
    done = shop.inside("check-resume", "new:app", "--output", "json")
    assert (done.code, done.json["not_resuming"]) == (1, 5)


def test_groups_are_bounded(shop: CommandLine, start: Callable[..., list[int]]) -> None:
    start("orders.import", *[order(f"A-{number}") for number in range(250)])
    done = shop.inside("check-resume", "new:app", "--output", "json")
    groups = done.json["problems"]
    assert len(groups) == 101
    assert (groups[-1]["task"], groups[-1]["reason"], groups[-1]["jobs"]) == ("…", "other than the 100 above", 150)
    assert done.json["not_resuming"] == 250


# --- it changes nothing, and needs no right to ---


@pytest.fixture
def reader(cluster: Cluster, shop: CommandLine) -> Iterator[str]:
    """The dsn of a role that may only select."""
    dsn = shop.environment["PERDURE_DSN"]
    with psycopg.connect(dsn, autocommit=True) as connection:
        name = f"reader_{connection.info.dbname}"
        connection.execute(f"create role {name} login".encode())
        connection.execute(f"grant usage on schema background_tasks to {name}".encode())
        connection.execute(f"grant select on all tables in schema background_tasks to {name}".encode())
        yield make_conninfo(dsn, user=name)
        connection.execute(f"drop owned by {name}".encode())
        connection.execute(f"drop role {name}".encode())


def test_a_role_that_may_only_select_will_do(shop: CommandLine, start: Callable[..., list[int]], reader: str) -> None:
    start("orders.import", order("A-17"), events=("x",))
    done = shop.inside("check-resume", "new:app", PERDURE_DSN=reader)
    assert (done.code, done.out.splitlines()[-1][:19]) == (1, "1 of 1 live jobs wo")


def test_it_reads_in_transactions_that_cannot_write(shop: CommandLine, start: Callable[..., list[int]]) -> None:
    start("orders.import", order(), events=("x",))
    with psycopg.connect(shop.environment["PERDURE_DSN"], autocommit=True) as connection:
        # What only a writing transaction may do, done by every statement that reads a job or an event.
        connection.execute("create sequence writes")
        for table in ("jobs", "events"):
            connection.execute(f"alter table background_tasks.{table} rename to {table}_kept".encode())
            connection.execute(
                f"create view background_tasks.{table} as select kept.* from background_tasks.{table}_kept as kept "
                "where nextval('writes') > 0".encode()
            )
    done = shop.inside("check-resume", "old:app")
    assert done.code == 1
    assert "cannot execute nextval() in a read-only transaction" in done.err


def test_nothing_of_a_job_is_changed(shop: CommandLine, start: Callable[..., list[int]]) -> None:
    start("orders.import", order("A-17"), order(token="t"), events=("x",))
    with psycopg.connect(shop.environment["PERDURE_DSN"], autocommit=True) as connection:

        def rows() -> list[tuple[Any, ...]]:
            return [
                *connection.execute("select xmin, jobs from background_tasks.jobs order by id").fetchall(),
                *connection.execute("select xmin, events from background_tasks.events order by id").fetchall(),
            ]

        before = rows()
        assert shop.inside("check-resume", "new:app").code == 1
        assert rows() == before


# --- how it tells ---


def test_off_a_terminal_it_prints_lines_on_standard_error(shop: CommandLine, start: Callable[..., list[int]]) -> None:
    start("orders.import", order())
    done = shop("check-resume", "old:app", "--output", "json")
    assert done.json["jobs"] == 1
    assert "0 of 1 live jobs checked" in done.err


def test_on_a_terminal_it_shows_a_bar_that_goes_away(shop: CommandLine, start: Callable[..., list[int]]) -> None:
    start("orders.import", order("A-17"))
    done = on_terminal(shop, "check-resume", "new:app", with_errors=True)
    assert done.code == 1
    assert "1 of 1 live jobs checked" in done.out
    assert "━" in done.out
    assert "\x1b[2K" in done.out.partition("A-17")[0]


def test_a_schema_that_is_not_there_is_a_line(shop: CommandLine) -> None:
    done = shop.inside("check-resume", "new:app", PERDURE_PERSISTENCE_SCHEMA_NAME="elsewhere")
    assert done.code == 1
    assert "run `perdure migrate` first" in done.err


def test_an_app_that_is_not_there_is_a_usage_error(shop: CommandLine) -> None:
    assert shop.inside("check-resume", "nowhere:app").code == 2
