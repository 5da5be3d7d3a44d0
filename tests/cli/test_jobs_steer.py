"""`perdure jobs proceed --merge`, `send` and `retry`; and the story that `show` tells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.clients import WORKER, Hands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import CommandLine

APP = ["--app", "shop:app"]
RAISED = json.dumps(
    {"raised": {"type": "ValueError", "message": "no rows", "traceback": "Traceback:\n  line 1\nValueError: no rows\n"}}
)


@pytest.fixture
def by_hand(perdure_db: CommandLine) -> Iterator[Hands]:
    hands = Hands(perdure_db.environment["PERDURE_DSN"])
    yield hands
    hands.close()


@pytest.fixture
def start(perdure_db: CommandLine) -> Callable[..., None]:
    def start(*arguments: str) -> None:
        ended = perdure_db.inside("jobs", "start", *APP, *arguments)
        assert ended.code == 0, ended.err

    return start


@pytest.fixture
def suspended(start: Callable[..., None], by_hand: Hands) -> Hands:
    """One suspended job of a task with a typed checkpoint, and hands on it."""
    start("orders.approve")
    by_hand.sql("update background_tasks.jobs set state = 4, scheduled_at = null")
    return by_hand


def checkpoint(hands: Hands) -> tuple[Any, ...]:
    return hands.sql("select state, execution_metadata, checkpoint from background_tasks.all_jobs")[0]


# --- proceed --merge ---


def test_a_merge_is_checked_against_the_type_and_stored(perdure_db: CommandLine, suspended: Hands) -> None:
    ended = perdure_db.inside("jobs", "proceed", "1", "--merge", '{"page": 12}', *APP)
    assert (ended.code, ended.out) == (0, "job 1 (orders.approve) was let go on; it is proceeded now\n")
    assert checkpoint(suspended) == (5, {"page": 12}, 1)


def test_a_null_of_a_merge_puts_a_field_back_to_its_default(perdure_db: CommandLine, suspended: Hands) -> None:
    suspended.sql("update background_tasks.jobs set execution_metadata = '{\"page\": 7}'")
    assert perdure_db.inside("jobs", "proceed", "1", "--merge", '{"page": null}', *APP).code == 0
    assert checkpoint(suspended) == (5, {"page": 0}, 1)


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ('{"page": "x"}', "--merge: "),
        ('{"pgae": 5}', "--merge: Progress has no 'pgae'; its keys are 'page'"),
        ("null", "--merge: "),
        ("[]", "--merge: "),
    ],
)
def test_a_merge_that_does_not_fit_the_type_changes_nothing(
    perdure_db: CommandLine, suspended: Hands, patch: str, said: str
) -> None:
    ended = perdure_db.inside("jobs", "proceed", "1", "--merge", patch, *APP)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("job 1: nothing was changed: ")
    assert said in ended.err
    assert checkpoint(suspended) == (4, {"page": 0}, 0)
    answer = perdure_db.inside("jobs", "proceed", "1", "--merge", patch, *APP, "--output", "json").json
    assert (answer[0]["answer"], answer[0]["job"]) == ("ModificationFailed", None)
    assert said in answer[0]["message"]


def test_without_the_code_a_merge_takes_unchecked(perdure_db: CommandLine, suspended: Hands) -> None:
    ended = perdure_db.inside("jobs", "proceed", "1", "--merge", '{"page": "x"}')
    assert ended.code == 2
    assert "--merge: without the code nothing checks it: give --app MODULE:APP, or --unchecked" in ended.err
    assert checkpoint(suspended) == (4, {"page": 0}, 0)
    suspended.sql("update background_tasks.jobs set version = 3")
    assert perdure_db.inside("jobs", "proceed", "1", "--merge", '{"new": {"a": null}}', "--unchecked").code == 0
    assert checkpoint(suspended) == (5, {"page": 0, "new": {}}, 1)
    assert suspended.sql("select version from background_tasks.jobs") == [(3,)]


def test_a_merge_of_jobs_that_are_not_there_or_do_not_wait_is_answered_for_each(
    perdure_db: CommandLine, suspended: Hands, start: Callable[..., None]
) -> None:
    start("orders.approve")
    for code in (APP, ["--unchecked"]):
        ended = perdure_db.inside("jobs", "proceed", "2", "99", "--merge", '{"page": 1}', *code)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.splitlines() == [
            "job 2 (orders.approve) is pending; nothing was changed",
            "job 99: there is no such job",
        ]


def test_a_sleeping_job_remembers_a_proceed_and_isnt_merged_with(perdure_db: CommandLine, suspended: Hands) -> None:
    suspended.sql("update background_tasks.jobs set asleep = true")
    ended = perdure_db.inside("jobs", "proceed", "1", "--merge", '{"page": 12}', *APP)
    said = "job 1 (orders.approve) is in a ctx.sleep(); nothing was changed\n"
    assert (ended.code, ended.out, ended.err) == (1, "", said)
    ended = perdure_db.inside("jobs", "proceed", "1", *APP)
    said = "job 1 (orders.approve) is in a ctx.sleep(); it goes on as soon as it suspends\n"
    assert (ended.code, ended.out, ended.err) == (0, said, "")
    assert checkpoint(suspended) == (4, {"page": 0}, 0)


# --- send ---


def test_an_event_is_checked_against_the_tasks_and_sent(perdure_db: CommandLine, suspended: Hands) -> None:
    ended = perdure_db.inside("jobs", "send", "1", '{"type": "Approved", "by": "ann"}', *APP)
    assert (ended.code, ended.out) == (0, "job 1 was sent the event\n")
    assert suspended.sql("select event from background_tasks.events") == [({"type": "Approved", "by": "ann"},)]
    assert checkpoint(suspended)[0] == 5
    shown = perdure_db.inside("jobs", "show", "1").out
    assert "unread events       1\n" in shown
    assert "woken by            event\n" in shown


@pytest.mark.parametrize(
    "event",
    ['{"type": "Approval", "by": "ann"}', '{"type": "Approved"}', "17", '{"type": "Approved", "by": "ann", "yb": "x"}'],
)
def test_an_event_that_does_not_fit_is_refused(perdure_db: CommandLine, suspended: Hands, event: str) -> None:
    ended = perdure_db.inside("jobs", "send", "1", event, *APP)
    assert (ended.code, ended.out) == (2, "")
    assert "EVENT of orders.approve" in ended.err
    assert suspended.sql("select event from background_tasks.events") == []


def test_an_event_for_a_task_that_takes_none_is_refused(perdure_db: CommandLine, start: Callable[..., None]) -> None:
    start("orders.wait")
    ended = perdure_db.inside("jobs", "send", "1", "{}", *APP)
    assert (ended.code, ended.err) == (1, "Error: job 1: the task 'orders.wait' takes no events\n")


def test_without_the_code_an_event_takes_unchecked(perdure_db: CommandLine, suspended: Hands) -> None:
    ended = perdure_db.inside("jobs", "send", "1", "-", given='{"by": "ann"}')
    assert ended.code == 2
    assert "EVENT: without the code nothing checks it" in ended.err
    assert perdure_db.inside("jobs", "send", "1", "-", "--unchecked", given='{"by": "ann"}').code == 0
    assert suspended.sql("select event from background_tasks.events") == [({"by": "ann"},)]


def test_an_event_to_a_job_that_has_ended_or_is_not_there_says_so(perdure_db: CommandLine, suspended: Hands) -> None:
    perdure_db.inside("jobs", "cancel", "1")
    event = '{"type": "Approved", "by": "ann"}'
    ended = perdure_db.inside("jobs", "send", "1", event, *APP)
    assert (ended.code, ended.err) == (1, "job 1 (orders.approve) is cancelled; nothing was changed\n")
    ended = perdure_db.inside("jobs", "send", "99", event, *APP)
    assert (ended.code, ended.err) == (1, "job 99: there is no such job\n")
    del suspended


# --- retry ---


def test_ended_jobs_begin_again_from_their_checkpoint(perdure_db: CommandLine, suspended: Hands) -> None:
    suspended.sql("update background_tasks.jobs set execution_metadata = '{\"page\": 7}'")
    perdure_db.inside("jobs", "cancel", "1")
    ended = perdure_db.inside("jobs", "retry", "1", "99")
    assert (ended.code, ended.out) == (1, "job 1 (orders.approve) begins again; it is pending now\n")
    assert ended.err == "job 99: there is no such job\n"
    assert checkpoint(suspended) == (0, {"page": 7}, 0)
    ended = perdure_db.inside("jobs", "retry", "1", "--output", "json")
    assert ended.code == 1
    assert [(answer["answer"], answer["job"]["state"]) for answer in ended.json] == [("NotFinal", "pending")]


@pytest.mark.parametrize(
    ("arguments", "stored"),
    [
        (APP, {"page": 0}),
        ([*APP, "--execution-metadata", '{"page": 3}'], {"page": 3}),
        (["--execution-metadata", '{"any": "thing"}'], {"any": "thing"}),
        (["--execution-metadata", "null"], None),
    ],
)
def test_a_job_begins_afresh_where_its_type_begins_or_where_it_is_told(
    perdure_db: CommandLine, suspended: Hands, arguments: list[str], stored: Any
) -> None:
    suspended.sql("update background_tasks.jobs set execution_metadata = '{\"page\": 7}'")
    perdure_db.inside("jobs", "cancel", "1")
    assert perdure_db.inside("jobs", "retry", "1", "--afresh", *arguments).code == 0
    assert checkpoint(suspended) == (0, stored, 1)


def test_afresh_without_the_code_and_without_a_checkpoint_is_not_understood(
    perdure_db: CommandLine, suspended: Hands
) -> None:
    perdure_db.inside("jobs", "cancel", "1")
    for arguments, said in (
        (["--afresh"], "--afresh: without the code it isn't known where the task begins: give --app MODULE:APP"),
        (["--execution-metadata", "{}"], "--execution-metadata is where a job begins --afresh"),
        (["--afresh", *APP, "--execution-metadata", '{"page": "x"}'], "--execution-metadata of orders.approve"),
        (["--afresh", *APP, "--execution-metadata", '{"pgae": 1}'], "orders.approve: Progress has no 'pgae'; its keys"),
    ):
        ended = perdure_db.inside("jobs", "retry", "1", *arguments)
        assert (ended.code, ended.out) == (2, "")
        assert said in ended.err
    assert checkpoint(suspended)[0] == 8


# --- start ---


def test_a_deadline_is_taken(perdure_db: CommandLine, start: Callable[..., None], by_hand: Hands) -> None:
    start("orders.approve", "--deadline", "01:30:00")
    assert by_hand.sql("select extract(epoch from deadline_at - scheduled_at)::int from background_tasks.jobs") == [
        (5400,)
    ]
    ended = perdure_db.inside("jobs", "start", *APP, "orders.approve", "--deadline", "soon")
    assert ended.code == 2
    assert "'soon' is no duration" in ended.err


# --- the story ---


@pytest.fixture
def told(start: Callable[..., None], by_hand: Hands) -> Hands:
    """A job with a past: it raised, was suspended, was woken by an event and failed."""
    start("orders.approve")
    by_hand.sql(
        """insert into background_tasks.attempts
            (job_id, attempt, worker_id, started_at, ended_at, ending, woken_by, error)
            values (1, 1, %s, '2030-01-01 00:00:00Z', '2030-01-01 00:00:02.5Z', 1, 0, %s),
                (1, 2, %s, '2030-01-01 00:01Z', '2030-01-01 02:02Z', 4, 0, null)""",
        *[WORKER, RAISED, WORKER],
    )
    by_hand.sql(
        "update background_tasks.jobs set state = 2, worker_id = %s, attempt = 3, woken_by = 2, "
        "started_at = '2030-01-02 00:00Z'",
        WORKER,
    )
    return by_hand


def test_show_tells_a_jobs_story(perdure_db: CommandLine, told: Hands) -> None:
    lines = perdure_db.inside("jobs", "show", "1", TZ="UTC").out.splitlines()
    place = lines.index(next(line for line in lines if line.startswith("attempt  woken by")))
    assert lines[place].split() == ["attempt", "woken", "by", "started", "took", "ended", "worker", "error"]
    first, second, third = lines[place + 1 :]
    assert first.split()[:2] == ["1", "start"]
    assert first.endswith("2.5 s    raised     00000000  ValueError: no rows")
    assert "2:01:00  suspended  00000000" in second
    assert third.split()[:2] == ["3", "event"]
    assert "running" in third
    told.sql('update background_tasks.attempts set error = \'{"error": {"since": "today"}}\' where attempt = 1')
    assert '{"since": "today"}' in perdure_db.inside("jobs", "show", "1").out


def test_show_with_tracebacks_shows_errors_in_full(perdure_db: CommandLine, told: Hands) -> None:
    assert "line 1" not in perdure_db.inside("jobs", "show", "1").out
    assert perdure_db.inside("jobs", "show", "1", "--traceback").out.endswith(
        "\nattempt 1  Traceback:\n             line 1\n           ValueError: no rows\n"
    )
    del told


def test_the_json_of_show_has_the_whole_story(perdure_db: CommandLine, told: Hands) -> None:
    shown = perdure_db.inside("jobs", "show", "1", "--output", "json").json
    assert (shown["woken_by"], shown["version"], shown["deadline_at"], shown["unread_events"]) == ("event", 1, None, 0)
    first, second, third = shown["attempts"]
    assert first == {
        "number": 1,
        "worker_id": WORKER,
        "started_at": "2030-01-01T00:00:00+00:00",
        "ended_at": "2030-01-01T00:00:02.500000+00:00",
        "ending": "raised",
        "woken_by": "start",
        "error_kind": "raised",
        "error": json.loads(RAISED)["raised"],
    }
    assert (second["ending"], second["error"]) == ("suspended", None)
    assert (third["ending"], third["ended_at"], third["woken_by"]) == ("running", None, "event")
    told.sql("update background_tasks.attempts set error = '[]' where attempt = 1")
    assert perdure_db.inside("jobs", "show", "1", "--output", "json").json["attempts"][0]["error_kind"] == "unreadable"


def test_an_undecodable_progress_or_error_does_not_fail_the_list(perdure_db: CommandLine, told: Hands) -> None:
    told.sql("update background_tasks.jobs set progress = '{\"done\": \"many\"}', error = '[]'")
    assert perdure_db.inside("jobs", "list").code == 0
    (job,) = perdure_db.inside("jobs", "list", "--output", "json").json
    assert (job["progress"], job["error_kind"]) == (None, "unreadable")
