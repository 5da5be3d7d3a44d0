"""Ways to lay out the jobs' tables, each with the three statements that a benchmark needs: fill, settle, claim.

All keep what perdure promises: a settle is fenced (id, attempt, state, worker, checkpoint number, and the worker's
valid lease), a lapsed worker's jobs are found by an index (but where a variant says otherwise), and a claim takes
larger priorities first, then by due time and id.
They are made for measuring; the project's own statements are in `perdure.store`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["BARE", "LANE_SESSION", "NARROW_SESSION", "Design", "Layout", "Tables", "Watermark", "design"]

Tables = Literal["one table", "finished moved", "ready list", "ready list, no rescue"]
Watermark = Literal["", "second", "position"]

LANE_SESSION = (
    "set plan_cache_mode = force_generic_plan",
    "set enable_seqscan = off",
    "set enable_bitmapscan = off",
    "set enable_hashjoin = off",
    "set enable_mergejoin = off",
    "set jit = off",
)
NARROW_SESSION = ("set plan_cache_mode = force_generic_plan",)


@dataclass(frozen=True, slots=True)
class Layout:
    """What a variant is made of; the defaults are the base that variants differ from in one point.

    Attributes:
        tables: Where a job's row lives while it waits, runs and after it has ended.
        skip_locked: Whether a settle steps over rows that somebody else has locked.
        payload: The type of metadata and execution metadata.
        history: Whether a settle adds a row for the attempt.
        finished_index: An index more on the finished rows: by their end, or on those that did not complete.
        rescue_index: Whether a lapsed worker's jobs are found by an index, and not by reading all live ones.
        plain_guard: Whether a settle asks for its worker with "=", which lures the planner to the rescuer's index.
        bands: How many (queue, priority) pairs the claim looks through; 0: one, named in the statement.
        watermark: Where a claim starts to look: at the front, or at a floor (see `exchange.Floors`) that is a second
            before the due time up to which nothing was left, or the position (due time and id) of a few claims ago.
        session: Settings of the worker's connections.
        fresh: Whether statements are prepared on empty tables without statistics, and filled afterwards.
        collapse_nulls: Whether a parameter is null, instead of an array of nothing but nulls.
        lookup: How a row finds its result: by its place in an array; cut from one long text, by offsets (an array of
            texts must be walked from its front, one of integers not); or by a join with the arrays, unnested.
    """

    tables: Tables = "finished moved"
    skip_locked: bool = True
    payload: Literal["jsonb", "json", "bytea"] = "jsonb"
    history: bool = False
    finished_index: Literal["", "finished_at", "unhappy"] = ""
    rescue_index: bool = True
    plain_guard: bool = False
    bands: int = 1
    watermark: Watermark = ""
    session: tuple[str, ...] = LANE_SESSION
    fresh: bool = False
    collapse_nulls: bool = True
    lookup: Literal["array", "blob", "join"] = "array"


@dataclass(frozen=True, slots=True)
class Design:
    """A layout's statements.

    Attributes:
        schema: Drops and makes the tables.
        fill: Adds `count` jobs that are due, with ids from `first` on.
        settle: Ends the attempts named by the arrays; empty where the claim does it, too.
        claim: Takes `want` jobs: id, attempt, queue, priority, due time and payloads.
        finished: Counts finished jobs.
        session: Settings of the worker's connections.
        fresh: See `Layout`.
        collapse_nulls: See `Layout`.
        watermark: See `Layout`.
    """

    schema: str
    fill: str
    settle: str
    claim: str
    finished: str
    session: tuple[str, ...] = LANE_SESSION
    fresh: bool = False
    collapse_nulls: bool = True
    watermark: Watermark = ""


_LIVE_COLUMNS = """
    id bigint primary key, scheduled_at timestamptz, created_at timestamptz not null, started_at timestamptz,
    worker_id uuid, attempt int not null default 0, retry_number int not null default 0,
    scheduler_retries int not null default 0, checkpoint int not null default 0,
    claim_checkpoint int not null default 0, state smallint not null default 0, priority smallint not null,
    lapses smallint not null default 0,
    proceed_requested boolean not null default false, cancel_requested boolean not null default false,
    awaited boolean not null default false, queue text not null, task text not null,
    metadata {payload} not null, execution_metadata {payload} not null, error json, last_error text"""
_FINISHED_COLUMNS = """
    id bigint primary key, scheduled_at timestamptz, created_at timestamptz not null, started_at timestamptz,
    finished_at timestamptz not null, worker_id uuid, attempt int not null, retry_number int not null,
    checkpoint int not null, state smallint not null, priority smallint not null, queue text not null,
    task text not null, metadata {payload} not null, execution_metadata {payload} not null,
    result json, error json, last_error text"""
_ATTEMPTS = """create table attempts (job_id bigint, number int, worker_id uuid, started_at timestamptz,
    ended_at timestamptz, state smallint, error json, primary key (job_id, number))"""
_HOT = """autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0"""
_RETURNING = "id, attempt, queue, priority, scheduled_at, task, retry_number, checkpoint, metadata, execution_metadata"
_READY = "state in (0, 3, 4, 5) and scheduled_at is not null"
_VALID_LEASE = "exists (select from workers where id = %(worker)s and lease_until > clock_timestamp())"
_PAYLOADS = (
    """format('{"i":%%s,"to":"someone@example.com","subject":"Your order has shipped","lang":"en","n":%%s}', i, i)""",
    """'{"page_token":null,"rows":0}'""",
)


def design(layout: Layout) -> Design:
    """Return the statements of a layout."""
    settle = {
        "one table": _settle_in_place,
        "finished moved": _settle_by_moving,
        "ready list": _settle_record,
        "ready list, no rescue": _settle_record,
    }[layout.tables](layout)
    kept = "jobs where state = 6" if layout.tables != "finished moved" else "finished_jobs"
    return Design(
        schema=_schema(layout),
        fill=_fill(layout),
        settle=settle,
        claim=_claim(layout),
        finished=f"select count(*) from {kept}",
        session=layout.session,
        fresh=layout.fresh,
        collapse_nulls=layout.collapse_nulls,
        watermark=layout.watermark,
    )


# --- tables ---


def _schema(layout: Layout) -> str:
    live = _LIVE_COLUMNS.format(payload=layout.payload)
    parts = ["drop table if exists jobs, finished_jobs, ready, held, attempts, bands, workers, task"]
    indexes = [f"create index jobs_ready on jobs (queue, priority, scheduled_at, id) where {_READY}"]
    if layout.rescue_index:
        indexes.append("create index jobs_held on jobs (worker_id) where worker_id is not null")
    match layout.tables:
        case "one table":
            columns = f"{live}, finished_at timestamptz, result json"
            parts += [f"create table jobs ({columns}) with (fillfactor = 70, {_HOT})", *indexes]
        case "finished moved":
            finished = _FINISHED_COLUMNS.format(payload=layout.payload)
            parts += [f"create table jobs ({live}) with (fillfactor = 70, {_HOT})", *indexes]
            parts += [f"create table finished_jobs ({finished})"]
        case _:
            columns = f"{live}, finished_at timestamptz, result json"
            parts += [f"create table jobs ({columns}) with (fillfactor = 45, {_HOT})"]
            parts += [
                "create table ready (queue text, priority smallint, scheduled_at timestamptz, id bigint)",
                f"alter table ready set ({_HOT})",
                "create index ready_place on ready (queue, priority, scheduled_at, id)",
                f"create table held (worker_id uuid, id bigint, primary key (worker_id, id)) with ({_HOT})",
            ]
    kept = "finished_jobs" if layout.tables == "finished moved" else "jobs"
    if layout.finished_index == "finished_at":
        parts.append(f"create index kept_end on {kept} (finished_at) where finished_at is not null")
    elif layout.finished_index == "unhappy":
        parts.append(f"create index kept_unhappy on {kept} (state, id) where state in (7, 8)")
    parts += [_ATTEMPTS, "create table bands (queue text not null, priority smallint not null)"]
    # Priorities come in levels of four queues. The jobs are in the level where a claim arrives last.
    last = max(layout.bands, 1) - 1
    named = "case i when 0 then 'default' else 'queue' || i %% 4 end, i / 4"
    parts.append(f"insert into bands select {named} from generate_series(0, {last}) i")
    parts.append("create table workers (id uuid primary key, lease_until timestamptz not null)")
    parts.append("insert into workers values (%(worker)s, now() + interval '1 day')")
    return ";\n".join(parts)


def _fill(layout: Layout) -> str:
    columns = "id, scheduled_at, created_at, priority, queue, task, metadata, execution_metadata"
    kind = layout.payload
    encode = ("convert_to({}, 'UTF8')" if kind == "bytea" else "({})::" + kind).format
    metadata, checkpoint = map(encode, _PAYLOADS)
    rows = "generate_series(%(first)s::bigint, %(first)s::bigint + %(count)s - 1) i"
    # Jobs started by one call share their due time: a thousand each, here.
    due = "clock_timestamp() + (i / 1000 - (%(first)s::bigint + %(count)s) / 1000) * interval '1 ms'"
    insert = (
        f"insert into jobs ({columns}) select i, {due}, clock_timestamp(), 0, 'default', 'mail.send', "
        f"{metadata}, {checkpoint} from {rows}"
    )
    if layout.tables.startswith("ready list"):
        return (
            f"with stored as ({insert} returning id, scheduled_at) "
            "insert into ready select 'default', 0, scheduled_at, id from stored"
        )
    return insert


# --- settle ---


def _at(name: str, kind: str) -> str:
    """Return the parameter's element for the row: ids are sorted, so no join is needed, and one plan only fits."""
    return f"(%({name})s::{kind}[])[width_bucket(id, %(ids)s::bigint[])]"


def _result(layout: Layout) -> str:
    match layout.lookup:
        case "blob":
            end, length = _at("result_ends", "int"), _at("result_lengths", "int")
            return (
                f"convert_from(substring(%(result_blob)s::bytea from {end} - {length} + 1 for {length}), 'UTF8')::json"
            )
        case "join":
            return "given.result"
        case _:
            return _at("results", "json")


def _mine(layout: Layout) -> str:
    ids = "%(ids)s::bigint[]"
    if layout.skip_locked:
        ids = f"array(select id from jobs where id = any({ids}) order by id for update skip locked)"
    # Not "=": that would prove jobs_held usable, whose dead entries a settle would then step over.
    holder = "worker_id = %(worker)s" if layout.plain_guard else "worker_id is not distinct from %(worker)s"
    return (
        f"id = any({ids}) and state = 2 and {holder} and attempt = {_at('attempts', 'int')} "
        f"and checkpoint = {_at('checkpoints', 'int')} "
        f"and not (cancel_requested and {_at('states', 'smallint')} = 7) and {_VALID_LEASE}"
    )


def _checkpoint(layout: Layout) -> str:
    return f"coalesce({_at('execution_metadata', layout.payload)}, execution_metadata)"


def _count_ended(layout: Layout, parts: list[str]) -> str:
    """Close a settle whose first part is `ended`; add the attempt to the history where there is one."""
    if layout.history:
        parts.append(
            "history as (insert into attempts select id, attempt, worker_id, started_at, clock_timestamp(), "
            f"{_at('states', 'smallint')}, {_at('errors', 'json')} from ended)"
        )
    return f"with {', '.join(parts)} select count(*) from ended"


def _end_in_place(layout: Layout) -> str:
    checkpointed = f"({_at('execution_metadata', layout.payload)} is not null)::int"
    return (
        f"update jobs set state = {_at('states', 'smallint')}, result = {_at('results', 'json')}, "
        f"error = {_at('errors', 'json')}, execution_metadata = {_checkpoint(layout)}, "
        f"checkpoint = checkpoint + {checkpointed}, finished_at = clock_timestamp(), worker_id = null "
        f"where {_mine(layout)} returning id, attempt, %(worker)s::uuid as worker_id, started_at"
    )


def _settle_in_place(layout: Layout) -> str:
    return _count_ended(layout, [f"ended as ({_end_in_place(layout)})"])


def _settle_by_moving(layout: Layout) -> str:
    columns = (
        "id, scheduled_at, created_at, started_at, finished_at, worker_id, attempt, retry_number, checkpoint, state, "
        "priority, queue, task, metadata, execution_metadata, result, error, last_error"
    )
    insert = (
        f"insert into finished_jobs ({columns}) "
        "select id, scheduled_at, created_at, started_at, clock_timestamp(), worker_id, attempt, retry_number, "
        f"checkpoint + ({_at('execution_metadata', layout.payload)} is not null)::int, {_at('states', 'smallint')}, "
        f"priority, queue, task, metadata, {_checkpoint(layout)}, {_result(layout)}, {_at('errors', 'json')}, "
        "last_error from ended"
    )
    if layout.lookup == "join":
        insert += (
            " join (select * from unnest(%(ids)s::bigint[], %(results)s::json[]) as given (given_id, result)) as given "
            "on given_id = id"
        )
    return _count_ended(
        layout, [f"ended as (delete from jobs where {_mine(layout)} returning *)", f"kept as ({insert})"]
    )


def _settle_record(layout: Layout) -> str:
    parts = [f"ended as ({_end_in_place(layout)})"]
    if layout.tables == "ready list":
        parts.append(
            "let_go as (delete from held where worker_id = %(worker)s and id = any(array(select id from ended)))"
        )
    return _count_ended(layout, parts)


# --- claim ---

_TAKE = (
    "state = 2, attempt = attempt + 1, worker_id = %(worker)s, started_at = clock_timestamp(), "
    "claim_checkpoint = checkpoint"
)


def _claim(layout: Layout) -> str:
    if layout.tables.startswith("ready list"):
        parts = [f"taken as (delete from ready where ctid = any(array({_due(layout, 'ready', 'ctid')})) returning id)"]
        if layout.tables == "ready list":
            parts.append("kept as (insert into held select %(worker)s::uuid, id from taken)")
        return (
            f"with {', '.join(parts)} update jobs set {_TAKE} where id = any(array(select id from taken)) "
            f"returning {_RETURNING}"
        )
    return f"update jobs set {_TAKE} where id = any(array({_due(layout, 'jobs', 'id')})) returning {_RETURNING}"


def _due(layout: Layout, table: str, key: str) -> str:
    """Return the query for the rows to take, locked: `key` of each."""
    guard = f"{_READY} and " if table == "jobs" else ""
    if not layout.bands:
        return (
            f"select {key} from {table} where {guard} queue = 'default' and priority = 0 "
            "and scheduled_at <= statement_timestamp() order by scheduled_at, id limit %(want)s::int "
            "for no key update skip locked"
        )
    bands, floor = "select distinct queue from bands", ""
    if layout.watermark:
        bands = (
            "select distinct queue, coalesce(floor_at, '-infinity') as floor_at, coalesce(floor_id, 0) as floor_id "
            "from bands left join unnest(%(floor_queues)s::text[], %(floor_priorities)s::smallint[], "
            "%(floor_ats)s::timestamptz[], %(floor_ids)s::bigint[]) as known (queue, priority, floor_at, floor_id) "
            "using (queue, priority)"
        )
        floor = "and (scheduled_at, id) >= (band.floor_at, band.floor_id)"
    return f"""
        select due.key from (
            select distinct priority from bands
            where %(queues)s::text[] is null or queue = any(%(queues)s::text[]) order by priority desc
        ) as level
        cross join lateral (
            select front.key from (
                {bands}
                where priority = level.priority and (%(queues)s::text[] is null or queue = any(%(queues)s::text[]))
            ) as band
            cross join lateral (
                select {key} as key, scheduled_at, id from {table}
                where {guard} queue = band.queue and priority = level.priority
                    and scheduled_at <= statement_timestamp() {floor}
                order by scheduled_at, id limit %(want)s::int for no key update skip locked
            ) as front
            order by front.scheduled_at, front.id limit %(want)s::int
        ) as due
        limit %(want)s::int"""


BARE = Design(
    schema="""
drop table if exists jobs, finished_jobs, ready, held, attempts, bands, workers, task;
create table task (id bigint primary key, state smallint not null default 0, payload jsonb not null,
    created_at timestamptz not null default now(), started_at timestamptz, finished_at timestamptz);
create index task_ready on task (id) where state = 0""",
    fill=f"insert into task (id, payload) select i, ({_PAYLOADS[0]})::jsonb "
    "from generate_series(%(first)s::bigint, %(first)s::bigint + %(count)s - 1) i",
    settle="",
    claim="""
with finished as (update task set state = 2, finished_at = now() where id = any(%(ids)s::bigint[]))
update task set state = 1, started_at = now()
where id = any(array(select id from task where state = 0 order by id limit %(want)s::int for update skip locked))
returning id, 1, 'default', 0, now(), '', 0, 0, payload, null""",
    finished="select count(*) from task where state = 2",
    session=(),
)
"""The least that a queue can do, to compare with: no fence, no lease, no result; settle and claim in one statement."""
