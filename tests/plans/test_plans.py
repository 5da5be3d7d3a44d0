"""Each statement has one sensible plan, whatever the planner knows of the tables; and a claim reads what it takes.

A plan is made once a connection and kept. So it must be right on a fresh table, on one that was empty when it was
analysed, and on one that has grown since.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from perdure.store.sessions import ISOLATION, PLANNER
from tests.plans.explain import explain
from tests.store.fence import fence_statement
from tests.store.workbench import Workbench, with_statement
from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

    from tests.support.cluster import Cluster

JOBS = 50_000
HOLDER = uuid.UUID(int=1)
BY_ID = {"jobs_pkey"}
NO_FLOORS: dict[str, object] = {
    "floor_queues": [],
    "floor_priorities": [],
    "floor_ats": [],
    "floor_ids": [],
    "others_at": None,
}
BOTH_BY_ID = {"jobs_pkey", "finished_jobs_pkey"}
PATHS = {
    "await": BY_ID,
    "begin_sleep": BY_ID,
    "cancel": BY_ID,
    "cancelling": {"jobs_cancelling"},
    "claim": {"jobs_ready", "jobs_pkey"},
    "claim_band": {"jobs_ready", "jobs_pkey"},
    "claim_suspect": {"jobs_suspect", "jobs_pkey"},
    "consume": {"events_pkey"},
    "defer": BY_ID,
    "expire": {"jobs_deadline", "jobs_pkey"},
    "finish": {"jobs_pkey", "events_pkey"},
    "finished": BY_ID,
    "forgive": BY_ID,
    "get": BOTH_BY_ID,
    "get_many": BOTH_BY_ID,
    "heal_bands": {"jobs_ready"},
    "lapsed_jobs": {"jobs_held"},
    "list": BOTH_BY_ID,
    "list_descending": BOTH_BY_ID,
    "history": {*BOTH_BY_ID, "attempts_pkey"},
    "hold": BY_ID,
    "live_payloads": BY_ID,
    "lock": BY_ID,
    "next_event": {"events_pkey"},
    "persist": {"jobs_pkey", "events_pkey"},
    "proceed": BY_ID,
    "put_back": BY_ID,
    "release": {"jobs_pkey", "events_pkey", "attempts_pkey"},
    "report_progress": BY_ID,
    "request_cancel": BY_ID,
    "retry": {"finished_jobs_pkey", "attempts_pkey", "steps_pkey", "events_pkey"},
    "unread_events": {"events_pkey"},
    "unread_payloads": {"events_pkey"},
    "revive": {"jobs_unreadable", "jobs_pkey"},
    "settlement": BOTH_BY_ID,
    "strays": {"jobs_held"},
    "steps": {"steps_pkey"},
    "sweep": {"jobs_held", "jobs_suspect", "jobs_deadline"},
    "take_checkpoint_number": BY_ID,
    "upgrade": BY_ID,
    "wake_unread": {"jobs_pkey", "events_pkey"},
}
"""How each statement reads the tables of jobs and of what belongs to them: what its header says."""

READ = ("jobs", "finished_jobs", "events", "steps", "attempts")

FILL = """
    insert into {s}.jobs (
        scheduled_at, created_at, state, worker_id, priority, queue, task, metadata, execution_metadata)
    select case kind when 'suspended' then null when 'future' then now + interval '1 h' else now end, now,
        case kind when 'suspended' then 4 when 'running' then 2 else 0 end,
        case kind when 'running' then %s::uuid end, n %% 3, 'queue ' || n %% 2, 'task ' || n %% 7, '{}', '{}'
    from (
        select n, clock_timestamp() as now, case when n %% 50 = 0 then 'running' when n %% 5 = 0 then 'due'
            when n %% 5 < 3 then 'future' else 'suspended' end as kind
        from generate_series(1, %s) as n
    ) as made
"""
FILL_FINISHED = """
    insert into {s}.finished_jobs (
        id, created_at, finished_at, claim, attempt, retry_number, checkpoint, state, priority, queue, task, metadata,
        execution_metadata, woken_by, version)
    select n, now(), now(), 1, 1, 0, 0, 6, 0, 'queue 0', 'task 0', '{}', '{}', 0, 1
    from generate_series(100001, %s) as n
"""


FILL_MORE = (
    "insert into {s}.events (job_id, version, event) select n %% 1000, 1, '1' from generate_series(1, %s) as n",
    "insert into {s}.steps (job_id, key, result) select n %% 1000, n::text, '1' from generate_series(1, %s) as n",
    """insert into {s}.attempts (job_id, attempt, ending, woken_by)
        select n %% 1000, n / 1000, 1, 0 from generate_series(1, %s) as n""",
    """update {s}.jobs set deadline_at = now() + interval '1 d' where id %% 10 = 0 and worker_id is null and id < %s""",
    """update {s}.jobs set cancel_requested = true where id %% 1000 = 0 and worker_id is not null and id < %s""",
)


def _fresh(_bench: Workbench) -> None:
    """Never vacuumed, never analysed."""


def _empty(bench: Workbench) -> None:
    for table in (*READ, "bands", "workers"):
        bench.sql(f"vacuum analyze {{s}}.{table}")


def _grown(bench: Workbench) -> None:
    for table in READ:
        bench.sql(f"alter table {{s}}.{table} set (autovacuum_enabled = off)")
    bench.sql(FILL, HOLDER, JOBS)
    for fill in FILL_MORE:
        bench.sql(fill, JOBS)
    bench.sql(FILL_FINISHED, 100_000 + JOBS)
    bench.sql("insert into {s}.bands select distinct queue, priority from {s}.jobs")


def _analysed(bench: Workbench) -> None:
    _grown(bench)
    _empty(bench)


TABLES = {"fresh": _fresh, "analysed while empty": _empty, "grown": _grown, "grown and analysed": _analysed}
GROWN = ("grown", "grown and analysed")


@pytest.fixture(scope="module", params=["18", "15"])
def any_cluster(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = request.getfixturevalue("cluster" if request.param == "18" else "debian_cluster")
    return found


@pytest.fixture(scope="module", params=TABLES)
def tables(request: pytest.FixtureRequest, any_cluster: Cluster) -> Iterator[Workbench]:
    with _made(any_cluster, request.param) as bench:
        yield bench


@pytest.fixture(scope="module", params=GROWN)
def grown_tables(request: pytest.FixtureRequest, any_cluster: Cluster) -> Iterator[Workbench]:
    with _made(any_cluster, request.param) as bench:
        yield bench


@contextmanager
def _made(cluster: Cluster, kind: str) -> Iterator[Workbench]:
    """Clone tables of this kind, which are filled once a server: the tests' order asks for them again and again."""

    def fill(dsn: str) -> None:
        migrate_database(dsn)
        with Workbench(dsn) as bench:
            TABLES[kind](bench)

    name = cluster.create_database(template=cluster.template(f"tables-{kind}".replace(" ", "-"), fill))
    with Workbench(cluster.dsn(name)) as bench:
        yield bench
    cluster.drop_database(name)


def _as_worker(bench: Workbench) -> Connection[object]:
    connection = bench.connect()
    for setting, value in (ISOLATION | PLANNER).items():
        connection.execute("select set_config(%s, %s, false)", [setting, value])
    return connection


@pytest.mark.parametrize("statement", PATHS)
def test_a_workers_connection_has_one_plan(tables: Workbench, statement: str) -> None:
    plan = explain(_as_worker(tables), tables.names, statement)
    assert plan.paths(*READ) == PATHS[statement]
    assert plan.whole_scans("events", "steps", "attempts") == set()


@pytest.mark.parametrize("statement", PATHS)
def test_a_plain_connection_has_the_same_plan_on_large_tables(grown_tables: Workbench, statement: str) -> None:
    plan = explain(grown_tables.connect(), grown_tables.names, statement)
    assert plan.paths(*READ) == PATHS[statement]
    assert plan.whole_scans("events", "steps", "attempts") == set()


def test_the_fence_has_one_plan(tables: Workbench) -> None:
    names = with_statement(tables.names, "fence", fence_statement(tables.names).encode())
    connection = tables.connect()
    connection.execute("set enable_seqscan = off")  # as the function does for itself
    connection.execute("set enable_bitmapscan = off")
    plan = explain(connection, names, "fence")
    assert plan.paths(*READ) == BY_ID


# --- what a claim reads ---


@pytest.mark.parametrize("session", ["worker", "plain"])
@pytest.mark.parametrize("want", [1, 100, 500])
def test_a_claim_reads_what_it_takes(grown_tables: Workbench, want: int, session: str) -> None:
    connection = _as_worker(grown_tables) if session == "worker" else grown_tables.connect()
    values = {"worker": grown_tables.register(), "want": want, "queues": None, **NO_FLOORS}
    plan = explain(connection, grown_tables.names, "claim", values)
    queues = 2
    # The first of each queue of the largest priority, and once more by id what is taken.
    assert want < plan.rows_read("jobs") <= (queues + 1) * want


def test_a_claim_of_one_queue_reads_and_locks_no_more_than_it_takes(grown_tables: Workbench) -> None:
    values = {"worker": grown_tables.register(), "want": 100, "queues": ["queue 1"], **NO_FLOORS}
    plan = explain(_as_worker(grown_tables), grown_tables.names, "claim", values)
    assert plan.rows_read("jobs") == 200


@pytest.mark.parametrize("want", [1, 100, 500])
def test_a_claim_of_one_band_reads_and_locks_no_more_than_it_takes(grown_tables: Workbench, want: int) -> None:
    band = {"queue": "queue 1", "priority": 2, "queues": None, "floor_at": None, "floor_id": 0}
    values = {"worker": grown_tables.register(), "want": want, **band}
    connection = _as_worker(grown_tables)
    # There are others: it only looks whether anything is left out.
    assert explain(connection, grown_tables.names, "claim_band", values).rows_read("jobs") == want
    with connection.transaction(force_rollback=True):
        connection.execute("delete from background_tasks.bands where queue <> 'queue 1' or priority <> 2")
        assert explain(connection, grown_tables.names, "claim_band", values).rows_read("jobs") == 2 * want


def test_a_claim_with_nothing_due_reads_nothing(grown_tables: Workbench) -> None:
    connection = _as_worker(grown_tables)
    values = {"worker": grown_tables.register(), "want": 500, "queues": None, **NO_FLOORS}
    with connection.transaction(force_rollback=True):
        connection.execute("delete from background_tasks.jobs where state = 0 and scheduled_at < clock_timestamp()")
        plan = explain(connection, grown_tables.names, "claim", values)
    assert plan.rows_read("jobs") == 0


@pytest.mark.parametrize("statement", ["strays", "lapsed_jobs"])
def test_the_searches_for_lost_jobs_read_what_a_worker_holds(grown_tables: Workbench, statement: str) -> None:
    values = {"worker": HOLDER, "known": [], "limit": 1000, "skipped": []}
    plan = explain(_as_worker(grown_tables), grown_tables.names, statement, values)
    assert plan.rows_read("jobs") == JOBS / 50


def test_a_sweep_reads_one_row_a_holder(grown_tables: Workbench) -> None:
    values = {"worker": uuid.uuid4(), "scans": True, "queues": None}
    plan = explain(_as_worker(grown_tables), grown_tables.names, "sweep", values)
    assert plan.rows_read("jobs") <= 2


def test_a_page_reads_what_it_shows(any_cluster: Cluster) -> None:
    filters = ("states", "names", "queues", "metadata", "execution_metadata", "created_after", "max_scheduled_at")
    values = {"after": 0, "limit": 50, **dict.fromkeys(filters)}
    with _made(any_cluster, "grown and analysed") as bench:
        plan = explain(bench.connect(), bench.names, "list", values)
    assert plan.rows_read("jobs") + plan.rows_read("finished_jobs") <= 52
