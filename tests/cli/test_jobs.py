"""`perdure jobs` lists, shows, starts, proceeds and cancels, with the app's code or without any."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import CommandLine
    from tests.support.processes import Process, Processes

IMPORT = ["jobs", "start", "--app", "shop:app", "orders.import"]
_ESCAPE = "\x1b"
_ASKED = "running; it will be cancelled when its attempt ends"


@pytest.fixture
def worker(processes: Processes, folder: Path, perdure_db: CommandLine) -> Process:
    """A worker of the app, ready."""
    started = processes.perdure("worker", "shop:app", cwd=folder, env=perdure_db.environment)
    started.wait_for_line("ready")
    return started


@pytest.fixture
def start(perdure_db: CommandLine) -> Callable[..., dict[str, Any]]:
    """Start a job by the command line, and return it as JSON."""

    def start(*arguments: str) -> dict[str, Any]:
        ended = perdure_db.inside("jobs", "start", "--app", "shop:app", *arguments, "--output", "json")
        assert ended.code == 0, ended.err
        job: dict[str, Any] = ended.json
        return job

    return start


# --- start ---


def test_a_job_is_started_with_the_types_of_the_task(perdure_db: CommandLine) -> None:
    ended = perdure_db(*IMPORT, '{"shop": "riga"}')
    assert (ended.code, ended.out) == (0, "job 1 (orders.import) started\n")
    job = perdure_db.inside("jobs", "show", "1", "--output", "json").json
    assert job["metadata"]["shop"] == "riga"
    assert job["execution_metadata"] == {"page": 0}
    assert job["state"] == "pending"


def test_metadata_that_does_not_fit_the_type_is_refused_before_anything_is_stored(perdure: CommandLine) -> None:
    ended = perdure.inside(*IMPORT, '{"shop": 17}')
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "METADATA of orders.import" in ended.err
    ended = perdure.inside(*IMPORT, '{"shop": "riga", "pgaes": 3}')
    assert (ended.code, ended.out) == (2, "")
    assert "METADATA of orders.import: ImportOrders has no 'pgaes'; its keys are 'shop', 'pages'" in ended.err
    assert "shop" in ended.err


def test_a_checkpoint_that_does_not_fit_the_type_is_refused(perdure: CommandLine) -> None:
    ended = perdure.inside(*IMPORT, '{"shop": "riga"}', "--execution-metadata", '{"page": "x"}')
    assert ended.code == 2
    assert "--execution-metadata of orders.import" in ended.err
    ended = perdure.inside(*IMPORT, '{"shop": "riga"}', "--execution-metadata", '{"pgae": 1}')
    assert (ended.code, ended.out) == (2, "")
    assert "--execution-metadata of orders.import: Progress has no 'pgae'; its keys are 'page'" in ended.err


def test_an_unknown_task_is_answered_with_the_one_that_was_meant(perdure: CommandLine) -> None:
    ended = perdure.inside("jobs", "start", "--app", "shop:app", "orders.imprt", "{}")
    assert (ended.code, ended.err) == (2, "Error: the app has no task 'orders.imprt'; did you mean 'orders.import'?\n")


@pytest.mark.parametrize("text", ["{shop: riga}", "", "NaN", '{"shop": "riga"'])
def test_what_is_no_json_is_a_usage_error(perdure: CommandLine, text: str) -> None:
    ended = perdure.inside(*IMPORT, text)
    assert ended.code == 2
    assert f"{text!r} is no JSON: " in ended.err


def test_metadata_is_read_from_standard_input(perdure_db: CommandLine) -> None:
    assert perdure_db(*IMPORT, "-", given='{"shop": "līvõ"}').code == 0
    assert perdure_db("jobs", "show", "1", "--output", "json").json["metadata"]["shop"] == "līvõ"


def test_queue_priority_and_time_are_taken(start: Callable[..., dict[str, Any]]) -> None:
    job = start("orders.approve", "--queue", "slow", "--priority", "-5", "--at", "01:30:00")
    assert (job["queue"], job["priority"]) == ("slow", -5)
    created, scheduled = (datetime.fromisoformat(job[key]) for key in ("created_at", "scheduled_at"))
    assert scheduled - created == timedelta(hours=1, minutes=30)
    job = start("orders.approve", "--at", "2100-01-31T08:00+05:45")
    assert datetime.fromisoformat(job["scheduled_at"]) == datetime(2100, 1, 31, 2, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("2100-01-31T08:00", "has no time zone; for UTC write 2100-01-31T08:00Z"),
        ("tomorrow", "is no time; allowed are"),
    ],
)
def test_a_time_that_is_none_is_a_usage_error(perdure: CommandLine, time: str, said: str) -> None:
    ended = perdure.inside("jobs", "start", "--app", "shop:app", "orders.approve", "--at", time)
    assert ended.code == 2
    assert said in ended.err


def test_without_code_the_first_checkpoint_has_to_be_given(perdure_db: CommandLine) -> None:
    ended = perdure_db.inside("jobs", "start", "orders.import", '{"shop": "riga"}')
    assert ended.code == 2
    assert "give --app MODULE:APP, or its first checkpoint too" in ended.err
    for checkpoint in ('{"page": 2}', "null"):
        job = perdure_db.inside(
            *["jobs", "start", "orders.import", '{"shop": "riga"}', "--execution-metadata", checkpoint],
            *["--output", "json"],
        ).json
        assert job["metadata"] == {"shop": "riga"}
        assert job["execution_metadata"] == json.loads(checkpoint)


# --- list ---


def test_the_newest_are_listed_first_and_more_is_told(perdure_db: CommandLine, start: Callable[..., Any]) -> None:
    for _number in range(3):
        start("orders.approve")
    all_of_them = perdure_db.inside("jobs", "list", "--output", "json")
    assert [job["id"] for job in all_of_them.json] == [3, 2, 1]
    assert all_of_them.err == ""
    some = perdure_db.inside("jobs", "list", "--output", "json", "--limit", "2", "--order", "ascending")
    assert [job["id"] for job in some.json] == [1, 2]
    assert some.err == "There are more: --limit 20 shows up to 20.\n"


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        (["--state", "cancelled"], [1]),
        (["--state", "cancelled", "--state", "pending"], [3, 2, 1]),
        (["--name", "orders.import"], [3, 2]),
        (["--queue", "slow"], [3]),
        (["--metadata", '{"shop": "riga"}'], [2]),
        (["--name", "orders.import", "--queue", "default", "--state", "pending"], [2]),
        (["--name", "nothing"], []),
    ],
)
def test_filters(perdure_db: CommandLine, start: Callable[..., Any], filters: list[str], ids: list[int]) -> None:
    start("orders.approve")
    start("orders.import", '{"shop": "riga"}')
    start("orders.import", '{"shop": "oslo"}', "--queue", "slow")
    perdure_db.inside("jobs", "cancel", "1")
    assert [job["id"] for job in perdure_db.inside("jobs", "list", "--output", "json", *filters).json] == ids


def test_a_state_that_there_is_not_is_a_usage_error(perdure: CommandLine) -> None:
    ended = perdure.inside("jobs", "list", "--state", "done")
    assert ended.code == 2
    assert "'completed'" in ended.err


def test_the_table_has_a_line_for_each_job_and_no_escapes(perdure_db: CommandLine, start: Callable[..., Any]) -> None:
    start("orders.approve")
    start("orders.import", '{"shop": "riga"}')
    header, *rows = perdure_db("jobs", "list", TERM="xterm-256color").out.splitlines()
    assert header.split() == ["id", "name", "state", "queue", "attempt", "due", "progress", "last", "error"]
    assert [row.split()[:5] for row in rows] == [
        ["2", "orders.import", "pending", "default", "0"],
        ["1", "orders.approve", "pending", "default", "0"],
    ]


@pytest.mark.usefixtures("worker")
def test_a_jobs_text_is_never_read_as_markup_nor_by_the_terminal(
    perdure_db: CommandLine, start: Callable[..., Any]
) -> None:
    start("orders.raise")
    assert perdure_db.inside("jobs", "watch", "1").code == 1
    for command in (["list"], ["show", "1"], ["watch", "1"], ["list", "--output", "json"]):
        shown = perdure_db("jobs", *command, FORCE_COLOR="", TERM="xterm").out
        assert "[red]no[/red]" in shown, command
        assert ":smile:" in shown, command
        assert _ESCAPE not in shown, command


def test_jobs_of_the_named_apps_schema_are_listed(perdure_db: CommandLine, folder: Path) -> None:
    text = folder.joinpath("shop.py").read_text(encoding="utf-8")
    folder.joinpath("mine.py").write_text(
        text.replace("App(", "App(persistence={'schema_name': 'my jobs'}, "), encoding="utf-8"
    )
    assert perdure_db.inside("migrate", "mine:app").code == 0
    assert perdure_db.inside("jobs", "start", "--app", "mine:app", "orders.approve").code == 0
    assert len(perdure_db.inside("jobs", "list", "--app", "mine:app", "--output", "json").json) == 1
    assert perdure_db.inside("jobs", "list", "--output", "json").json == []


def test_a_payload_that_the_code_could_not_read_is_shown_all_the_same(
    perdure_db: CommandLine, start: Callable[..., Any]
) -> None:
    start("orders.import", '{"shop": "riga"}')
    with psycopg.connect(perdure_db.environment["PERDURE_DSN"]) as connection:
        connection.execute("update background_tasks.jobs set metadata = '[1e3, \"old\"]'")
    for command in (["list"], ["show", "1"]):
        assert perdure_db.inside("jobs", *command, "--app", "shop:app").code == 0
    assert perdure_db.inside("jobs", "show", "1", "--app", "shop:app", "--output", "json").json["metadata"] == [
        1000,
        "old",
    ]


# --- show ---


@pytest.mark.usefixtures("worker")
def test_a_job_is_shown_with_its_result_and_its_errors(perdure_db: CommandLine, start: Callable[..., Any]) -> None:
    start("orders.import", '{"shop": "riga"}')
    start("orders.import", '{"shop": "closed"}')
    start("orders.raise")
    assert [perdure_db.inside("jobs", "watch", str(number)).code for number in (1, 2, 3)] == [0, 1, 1]
    completed, declared, raised = (
        perdure_db.inside("jobs", "show", str(number), "--output", "json").json for number in (1, 2, 3)
    )
    assert (completed["state"], completed["result"], completed["error_kind"]) == ("completed", 3, None)
    assert (completed["attempt"], completed["execution_metadata"]) == (1, {"page": 3})
    assert datetime.fromisoformat(completed["finished_at"]).utcoffset() == timedelta(0)
    assert (declared["state"], declared["error_kind"], declared["error"]) == ("failed", "declared", {"since": "today"})
    assert (raised["error_kind"], raised["error"]["type"]) == ("raised", "ValueError")
    assert "shop.py" in raised["error"]["traceback"]
    shown = perdure_db.inside("jobs", "show", "1").out
    assert "state               completed\n" in shown
    assert '"page": 3' in shown
    assert "result              3\n" in shown


def test_a_job_that_there_is_not_is_said(perdure_db: CommandLine) -> None:
    for command in ("show", "watch"):
        ended = perdure_db.inside("jobs", command, "99")
        assert (ended.code, ended.out, ended.err) == (1, "", "Error: there is no job 99\n")


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "٣", "9223372036854775808"])
def test_what_can_be_no_jobs_id_is_a_usage_error(perdure: CommandLine, text: str) -> None:
    for command in ("show", "watch", "proceed", "cancel"):
        ended = perdure.inside("jobs", command, "--", text)
        assert ended.code == 2
        assert f"{text!r} is no job's id, which is a whole number from 1 on" in ended.err


# --- proceed and cancel ---


@pytest.mark.usefixtures("worker")
def test_a_suspended_job_proceeds(perdure_db: CommandLine, start: Callable[..., Any]) -> None:
    start("orders.approve")
    with psycopg.connect(perdure_db.environment["PERDURE_DSN"], autocommit=True) as connection:
        _wait_for_state(connection, 1, 4)
    ended = perdure_db.inside("jobs", "proceed", "1")
    assert ended.code == 0
    assert ended.out.startswith("job 1 (orders.approve) was let go on; it is ")
    assert perdure_db.inside("jobs", "watch", "1").code == 0


def test_what_can_not_proceed_or_be_cancelled_is_said_for_each_job(
    perdure_db: CommandLine, start: Callable[..., Any]
) -> None:
    start("orders.approve")
    start("orders.approve")
    ended = perdure_db("jobs", "proceed", "1", "99")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == ("job 1 (orders.approve) is pending; nothing was changed\njob 99: there is no such job\n")
    ended = perdure_db.inside("jobs", "cancel", "1", "99", "2")
    assert ended.code == 1
    assert ended.out == "job 1 (orders.approve) is cancelled\njob 2 (orders.approve) is cancelled\n"
    answers = perdure_db.inside("jobs", "cancel", "1", "99", "--output", "json")
    assert answers.code == 1
    assert [(answer["id"], answer["answer"]) for answer in answers.json] == [(1, "JobEnded"), (99, "JobNotFound")]
    assert answers.json[0]["job"]["state"] == "cancelled"


def test_a_running_job_is_asked_to_stop_and_to_proceed(
    perdure_db: CommandLine, start: Callable[..., Any], worker: Process
) -> None:
    start("orders.wait")
    worker.wait_for_line("waiting in process")
    assert "is running; it goes on as soon as it suspends" in perdure_db.inside("jobs", "proceed", "1").out
    said = perdure_db.inside("jobs", "cancel", "1").out  # its worker may be quicker than our second look
    assert said in {f"job 1 (orders.wait) is {now}\n" for now in ("cancelled", _ASKED)}
    worker.terminate()
    assert worker.wait() == 0
    assert perdure_db.inside("jobs", "show", "1", "--output", "json").json["state"] == "cancelled"


def _wait_for_state(connection: psycopg.Connection[Any], job_id: int, state: int) -> None:
    def reached() -> bool:
        row = connection.execute("select state from background_tasks.all_jobs where id = %s", [job_id]).fetchone()
        return row == (state,)

    wait_until(reached, f"job {job_id} isn't in state {state}")
