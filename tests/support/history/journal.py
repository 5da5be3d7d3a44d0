"""The transition log: triggers that write down each change of a job in the transaction that makes it.

So it holds what was committed and nothing else, whoever has done it and however he died; and it can't be changed but by
the next round's `clear`. Beside it stand the tables that scenarios write their effects and orders into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from perdure import JobState
from perdure.core.history import AttemptEnding
from tests.support.history.values import EffectRow, Event, Image, LeaseImage, Row, Session, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "clear",
    "install",
    "read_effects",
    "read_images",
    "read_leases",
    "read_orders",
    "read_rows",
    "read_sessions",
    "read_workers",
]
__all__ += ["database_seconds", "read_unread"]

_COLUMNS = """
    job, task, state, attempt, claim, checkpoint, worker, retry_number, scheduler_retries, lapses, proceed_requested,
    cancel_requested, asleep, woken_by, due, place, outcome, error
"""
_LIVE = """
    {row}.id, {row}.task, {row}.state, {row}.attempt, {row}.claim, {row}.checkpoint, {row}.worker_id,
    {row}.retry_number, {row}.scheduler_retries, {row}.lapses, {row}.proceed_requested,
    {row}.cancel_requested, {row}.asleep, {row}.woken_by, {row}.scheduled_at, {row}.execution_metadata,
    null::json, {row}.error
"""
_ENDED = """
    {row}.id, {row}.task, {row}.state, {row}.attempt, {row}.claim, {row}.checkpoint, {row}.worker_id,
    {row}.retry_number, 0, 0, false, false, false, {row}.woken_by, {row}.scheduled_at,
    {row}.execution_metadata, {row}.result, {row}.error
"""
_TABLES = """
create schema history;

create table history.images (
    number bigint generated always as identity,
    at timestamptz not null default clock_timestamp(),
    transaction bigint not null default pg_current_xact_id()::text::bigint,
    who text not null default current_setting('application_name'),
    removed boolean not null,
    live boolean not null,
    job bigint not null,
    task text not null,
    state smallint not null,
    attempt int not null,
    claim int not null,
    checkpoint int not null,
    worker uuid,
    retry_number int not null,
    scheduler_retries int not null,
    lapses int not null,
    proceed_requested boolean not null,
    cancel_requested boolean not null,
    asleep boolean not null,
    woken_by smallint not null,
    due timestamptz,
    place jsonb not null,
    outcome json,
    error json
);

create table history.workers (
    worker uuid not null,
    pid int not null,
    at timestamptz not null default clock_timestamp()
);

create table history.leases (
    number bigint generated always as identity,
    worker uuid not null,
    at timestamptz not null default clock_timestamp(),
    until timestamptz not null,
    seconds double precision not null,
    concurrency int not null,
    is_choosy boolean not null,
    has_ended boolean not null
);

-- What watches the machine writes here, so that it notices a server that can't be written to.
create table history.pulse (at timestamptz not null);
insert into history.pulse values (clock_timestamp());

-- No row is unique here: what is there twice is to be seen.
create table history.effects (
    job bigint not null,
    number int not null,
    attempt int not null,
    event text,
    transaction bigint not null default pg_current_xact_id()::text::bigint
);

-- The attempts of lost workers: a job may be given back just so by a worker that is alive.
create table history.rescues (
    job bigint not null,
    transaction bigint not null default pg_current_xact_id()::text::bigint
);

create table history.orders (key text not null);

create function history.log_worker() returns trigger language plpgsql as $$
begin
    insert into history.workers (worker, pid) values (new.id, new.pid);
    return null;
end
$$;

create function history.log_lease() returns trigger language plpgsql as $$
declare
    lease record := case when tg_op = 'DELETE' then old else new end;
begin
    insert into history.leases (worker, until, seconds, concurrency, is_choosy, has_ended)
    values (lease.id, lease.lease_until, lease.lease_seconds, lease.concurrency, lease.queues is not null,
        tg_op = 'DELETE' or lease.lapsed_at is not null);
    return null;
end
$$;

create function history.log_rescue() returns trigger language plpgsql as $$
begin
    insert into history.rescues (job) values (new.job_id);
    return null;
end
$$;
"""
_TRIGGER = """
create function history.{function}() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        insert into history.images (removed, live, {columns}) values (true, {live}, {old});
    else
        insert into history.images (removed, live, {columns}) values (false, {live}, {new});
    end if;
    return null;
end
$$;
"""


def install(dsn: str, schema_name: str = "background_tasks") -> None:
    """Put the log into a migrated database: a schema `history`, and triggers on perdure's tables."""
    schema = sql.Identifier(schema_name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL(_TABLES))
        for table, columns, live in (("jobs", _LIVE, "true"), ("finished_jobs", _ENDED, "false")):
            function = f"log_{table}"
            body = _TRIGGER.format(
                function=function,
                columns=_COLUMNS,
                live=live,
                old=columns.format(row="old"),
                new=columns.format(row="new"),
            )
            connection.execute(body.encode())
            connection.execute(
                sql.SQL(
                    "create trigger history after insert or update or delete on {}.{} for each row "
                    "execute function history.{}()"
                ).format(schema, sql.Identifier(table), sql.Identifier(function))
            )
        connection.execute(
            sql.SQL(
                "create trigger history after insert on {}.workers for each row execute function history.log_worker()"
            ).format(schema)
        )
        connection.execute(
            sql.SQL(
                "create trigger history_of_lease after insert or delete on {0}.workers for each row "
                "execute function history.log_lease(); "
                "create trigger history_of_renewals after update on {0}.workers for each row "
                "when ((old.lease_until, old.lapsed_at) is distinct from (new.lease_until, new.lapsed_at)) "
                "execute function history.log_lease()"
            ).format(schema)
        )
        connection.execute(
            sql.SQL(
                "create trigger history after insert on {}.attempts for each row when (new.ending = {}) "
                "execute function history.log_rescue()"
            ).format(schema, AttemptEnding.LAPSED.code)
        )


def clear(connection: psycopg.Connection[Any]) -> None:
    """Forget all that was written down; workers that live stay known."""
    connection.execute("truncate history.images, history.effects, history.rescues, history.orders")
    connection.execute(
        "delete from history.leases where exists "
        "(select from history.leases as later where later.worker = leases.worker and later.number > leases.number)"
    )


def read_images(connection: psycopg.Connection[Any]) -> list[Image]:
    """Read the log."""
    rows = connection.execute(
        "select number, extract(epoch from at)::float8, transaction, who, removed, live, job, task, state, attempt, "
        "claim, checkpoint, worker::text, retry_number, scheduler_retries, lapses, exists (select from history.rescues "
        "where rescues.job = images.job and rescues.transaction = images.transaction), "
        "proceed_requested, cancel_requested, asleep, woken_by, extract(epoch from due)::float8, place, outcome, error "
        "from history.images order by number"
    )
    states = {state.code: state for state in JobState}
    return [_image(row, states) for row in rows]


def read_effects(connection: psycopg.Connection[Any]) -> list[EffectRow]:
    """Read the rows that handlers have written."""
    return _read(connection, EffectRow, "select job, number, attempt, event, transaction from history.effects")


def read_workers(connection: psycopg.Connection[Any]) -> list[Worker]:
    """Read who has registered."""
    statement = "select worker::text, pid, extract(epoch from at)::float8 from history.workers order by at"
    return _read(connection, Worker, statement)


def read_leases(connection: psycopg.Connection[Any]) -> list[LeaseImage]:
    """Read what became of the workers' leases, in the order in which it did; not of rows that somebody has spoilt."""
    statement = (
        "select worker::text, extract(epoch from at)::float8, extract(epoch from until)::float8, seconds, concurrency, "
        "is_choosy, has_ended from history.leases where isfinite(until) order by number"
    )
    return _read(connection, LeaseImage, statement)


def read_orders(connection: psycopg.Connection[Any]) -> list[str]:
    """Read the keys that were stored together with a start."""
    return [key for (key,) in connection.execute("select key from history.orders")]


def read_rows(connection: psycopg.Connection[Any], schema_name: str, *, after: int = 0) -> list[Row]:
    """Read the jobs as they are now, of ids above `after`."""
    statement = sql.SQL(
        "select id, metadata ->> 'key', finished_at is null, task, state, attempt, retry_number, scheduler_retries, "
        "proceed_requested, coalesce((select asleep from {schema}.jobs where jobs.id = all_jobs.id), false), "
        "extract(epoch from scheduled_at)::float8, execution_metadata, last_error "
        "from {schema}.all_jobs where id > {after} order by id"
    ).format(schema=sql.Identifier(schema_name), after=after)
    states = {state.code: state for state in JobState}
    return [Row._make((*row[:4], states[row[4]], *row[5:])) for row in connection.execute(statement)]


def read_unread(connection: psycopg.Connection[Any], schema_name: str, *, after: int = 0) -> list[Event]:
    """Read the events that aren't consumed, of jobs of ids above `after`."""
    statement = sql.SQL(
        "select job_id, event ->> 'key', woke from {}.events where job_id > {} order by job_id, id"
    ).format(sql.Identifier(schema_name), after)
    return _read(connection, Event, statement)


def read_sessions(connection: psycopg.Connection[Any], schema_name: str) -> list[Session]:
    """Read who of perdure's is connected, and which leases are valid."""
    statement = sql.SQL(
        "select application_name, coalesce(state, '') from pg_stat_activity "
        "where datname = current_database() and application_name like 'perdure%' "
        "union all select 'lease of ' || pid, 'until ' || lease_until from {}.workers "
        "where lapsed_at is null and lease_until > clock_timestamp()"
    ).format(sql.Identifier(schema_name))
    return _read(connection, Session, statement)


def database_seconds(connection: psycopg.Connection[Any]) -> float:
    """Ask the database's clock."""
    row = connection.execute("select extract(epoch from clock_timestamp())::float8").fetchone()
    assert row is not None
    return float(row[0])


def _image(row: tuple[Any, ...], states: Mapping[int, JobState]) -> Image:
    image = Image._make((*row[:8], states[row[8]], *row[9:]))
    # A row that was spoilt may have anything there.
    return image if isinstance(image.place, dict) else image._replace(place={})


def _read(connection: psycopg.Connection[Any], make: Callable[..., Any], statement: str | sql.Composed) -> list[Any]:
    query = statement.encode() if isinstance(statement, str) else statement
    with connection.cursor(row_factory=tuple_row) as cursor:
        return [make(*row) for row in cursor.execute(query)]
