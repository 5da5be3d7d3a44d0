-- perdure: jobs, finished jobs, events, steps, attempts, bands, workers
-- major: 1
--
-- `jobs` holds what can still run, `finished_jobs` what has ended; a final transition moves the row in one
-- statement. So claims, rescues and queries for live jobs never step over history, however long it is.
-- States are stored as the codes of perdure.core.states.JobState.

create sequence {schema}.job_ids as bigint;

-- Domains, not checks of the tables: those PostgreSQL makes ready anew for each statement, which costs a lone start a
-- fifth of its time in the server. What compares two columns has to be a check.
create domain {schema}.live_state as smallint check (value between 0 and 5);
create domain {schema}.final_state as smallint check (value between 6 and 8);
create domain {schema}.priority as smallint check (value between -100 and 100);
-- The codes of perdure.core.states.WokenBy: 0 nothing yet, 1 a proceed, 2 an event, 3 the time.
create domain {schema}.woken_by as smallint check (value between 0 and 3);
-- The codes of perdure.core.history.AttemptEnding.
create domain {schema}.attempt_ending as smallint check (value between 1 and 9);
create domain {schema}.step_key as text check (length(value) between 1 and 200);

create table {schema}.jobs (
    id bigint primary key default nextval({job_ids}),
    -- When the job is due, and its place in the line. Null: it isn't due at any time (suspended for ever).
    scheduled_at timestamptz,
    created_at timestamptz not null,
    started_at timestamptz,
    -- The worker that holds the job. Set exactly while an attempt runs.
    worker_id uuid,
    -- The last worker whose lease lapsed with this job in hand, until it reports again.
    lapsed_worker_id uuid,
    -- Counts claims: with the worker's id the fencing token. A claim that is put back spends a number here, so that a
    -- late write of it can never match a later claim.
    claim int not null default 0,
    -- Counts the claims that began to run: what people see.
    attempt int not null default 0,
    retry_number int not null default 0,
    scheduler_retries int not null default 0,
    -- The number of the stored execution metadata: a write names the one that it follows.
    checkpoint int not null default 0,
    -- `checkpoint` at the last claim: greater since means that the attempt has persisted something.
    claim_checkpoint int not null default 0,
    state {schema}.live_state not null default 0,
    priority {schema}.priority not null,
    lapses smallint not null default 0,
    -- How often in a row a worker didn't know the task or couldn't decode the payload.
    unreadable smallint not null default 0,
    suspect boolean not null default false,
    proceed_requested boolean not null default false,
    -- When a remembered proceed lets the job go on.
    proceed_at timestamptz,
    cancel_requested boolean not null default false,
    -- Somebody waits for the result: its end is notified.
    awaited boolean not null default false,
    -- What let the job go on from its last suspension. It stays through retries, stops and lapses, so that every attempt
    -- after the suspension knows.
    woken_by {schema}.woken_by not null default 0,
    -- Suspended by `ctx.sleep()`: events don't wake it.
    asleep boolean not null default false,
    -- When the whole job fails, wherever it is by then.
    deadline_at timestamptz,
    -- The version of the task's code that wrote the payloads.
    version int not null default 1,
    queue text not null,
    task text not null,
    metadata jsonb not null,
    execution_metadata jsonb not null,
    error json,
    last_error text,
    progress json,
    constraint held_while_running check ((state = 2) = (worker_id is not null))
) with (
    -- Room for a checkpoint beside its predecessor: persists and progress stay HOT.
    fillfactor = 70,
    -- The table turns over completely, and often: vacuum by what changed, not by a share of its size.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1
);

-- Claims: one range scan a band. Future jobs are at each band's end, so they cost a claim nothing.
create index jobs_ready on {schema}.jobs (queue, priority, scheduled_at, id)
    where state in (0, 3, 4, 5) and scheduled_at is not null and not suspect;
-- Suspects are claimed one at a time, apart from the others.
create index jobs_suspect on {schema}.jobs (scheduled_at, id)
    where state in (0, 3, 4, 5) and scheduled_at is not null and suspect;
-- Rescue. On "is not null", not on the state: else the planner takes it for the guard of a settle.
create index jobs_held on {schema}.jobs (worker_id) where worker_id is not null;
-- Cancel requests that a worker hasn't heard of, and jobs past their deadline: both are looked for now and then.
create index jobs_cancelling on {schema}.jobs (worker_id) where cancel_requested and worker_id is not null;
create index jobs_deadline on {schema}.jobs (deadline_at) where deadline_at is not null and worker_id is null;
-- A worker that starts with the code makes the jobs due that waited for it.
create index jobs_unreadable on {schema}.jobs (task) where unreadable > 0;

create table {schema}.finished_jobs (
    id bigint primary key,
    scheduled_at timestamptz,
    created_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz not null,
    worker_id uuid,
    claim int not null,
    attempt int not null,
    retry_number int not null,
    checkpoint int not null,
    state {schema}.final_state not null,
    priority {schema}.priority not null,
    queue text not null,
    task text not null,
    metadata jsonb not null,
    execution_metadata jsonb not null,
    result json,
    error json,
    last_error text,
    progress json,
    woken_by {schema}.woken_by not null,
    deadline_at timestamptz,
    version int not null
) with (
    -- Rows are only added (and one day deleted in bulk): no room to leave, little to vacuum.
    fillfactor = 100,
    autovacuum_vacuum_insert_scale_factor = 0.1
);

-- The exceptions are what people look for; they are few.
create index finished_jobs_unhappy on {schema}.finished_jobs (state, id) where state <> 6;

-- Events that the job hasn't consumed, in the order in which it gets them; consuming one deletes it, in the statement
-- that writes the checkpoint. Those of an ended job stay: an operator's retry finds them.
create table {schema}.events (
    job_id bigint not null,
    id bigint generated always as identity,
    sent_at timestamptz not null default clock_timestamp(),
    -- The version of the task's code that the sender had.
    version int not null,
    -- It has let its suspended job go on: that it does once, for a handler may not want it yet.
    woke boolean not null default false,
    event jsonb not null,
    primary key (job_id, id)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- What steps have returned; and until when sleeps last.
create table {schema}.steps (
    job_id bigint not null,
    key {schema}.step_key not null,
    result json not null,
    stored_at timestamptz not null default clock_timestamp(),
    primary key (job_id, key)
);

-- Attempts that have ended and weren't a job's last: the last one's story is in the job's own row, so that a job that
-- completes at once costs nothing here. The newest 100 of a job are kept.
create table {schema}.attempts (
    job_id bigint not null,
    attempt int not null,
    worker_id uuid,
    started_at timestamptz,
    ended_at timestamptz not null default clock_timestamp(),
    -- From 7 on the attempt ended the job, which an operator let begin again.
    ending {schema}.attempt_ending not null,
    woken_by {schema}.woken_by not null,
    error json,
    primary key (job_id, attempt)
);

-- Which (queue, priority) pairs have ever been used. A claim scans each band from its front.
-- Not unique on purpose: a start must never wait for another caller's open transaction.
create table {schema}.bands (
    queue text not null,
    priority smallint not null
);

-- A start makes its band known by this, where it isn't yet: a call that isn't made costs a statement next to nothing.
create function {schema}.add_band(band_queue text, band_priority smallint) returns void language sql
begin atomic
    insert into {schema}.bands (queue, priority) values (band_queue, band_priority);
end;

-- Which of its lives the database is in: PostgreSQL counts time lines, one more for each standby that is promoted. What a
-- server had acknowledged and its successor never got is gone, and its numbers come again: ids of jobs and events, claims,
-- checkpoints. So a worker that was registered before must not write: it might mean another job.
-- Inlined: a statement asks it once. Where the server doesn't tell (no such function, no right to it), all is one life.
create function {schema}.timeline() returns text language sql as $$
    select pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8)
$$;
-- The schema's name is not in the block: see send_event.
select set_config('perdure.schema', relnamespace::regnamespace::text, true) from pg_class where oid = {job_ids};
do $$
begin
    execute format('select %s.timeline()', current_setting('perdure.schema'));
exception when others then
    execute format(
        'create or replace function %s.timeline() returns text language sql as %L',
        current_setting('perdure.schema'), 'select text ''''');
end
$$;

create table {schema}.workers (
    id uuid primary key,
    lease_until timestamptz not null,
    lease_seconds double precision not null,
    -- Once set, the id is dead for ever: the worker registers anew under another.
    lapsed_at timestamptz,
    -- Set when it has stopped by itself and couldn't settle all its jobs, or has lost them with its time line: their rescue
    -- blames none of them.
    left_at timestamptz,
    -- The lease is good on this one alone.
    timeline text not null default {schema}.timeline(),
    started_at timestamptz not null default clock_timestamp(),
    -- True while it waits to be woken: starters notify only then.
    sleeping boolean not null default false,
    host text not null,
    pid int not null,
    concurrency int not null,
    queues text[],
    version text not null
) with (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);

-- Both halves have columns of the same types: else the planner would read all of them for each query.
create view {schema}.all_jobs as
    select id, state::smallint as state, task, queue, priority, attempt, retry_number, scheduler_retries, lapses, checkpoint,
        created_at, scheduled_at, started_at, null::timestamptz as finished_at, worker_id,
        cancel_requested, proceed_requested, metadata, execution_metadata, null::json as result, error, last_error, progress,
        woken_by, deadline_at, version
    from {schema}.jobs
    union all
    select id, state::smallint, task, queue, priority, attempt, retry_number, 0, 0::smallint, checkpoint,
        created_at, scheduled_at, started_at, finished_at, worker_id,
        false, false, metadata, execution_metadata, result, error, last_error, progress,
        woken_by, deadline_at, version
    from {schema}.finished_jobs;

-- Store an event and let its job go on, if that waits. Returns the state that the job was in; null when there is none
-- (any more), and nothing is stored.
-- A function, for each of its statements sees what was committed before it: the sender takes the job's row in the
-- weakest mode, which a suspension and an end wait for (and nothing else), so that a caller's long transaction holds up
-- neither checkpoints nor claims. Whoever comes second sees what the first has done. But a caller whose snapshot is as old
-- as its transaction might not: it takes the row in a mode that PostgreSQL refuses (40001) when the row has changed since.
-- always_notify: tell workers even if none sleeps: nobody knows who will when the caller's transaction ends.
-- The schema's name is not in its body: names can be anything, such as $$.
create function {schema}.send_event(
    target bigint, task_name text, event_version int, event jsonb, channel text, always_notify boolean default false)
returns smallint language plpgsql set search_path = {schema}, pg_temp as $$
declare
    found_state smallint;
    found_queue text;
    wakes boolean;
begin
    if current_setting('transaction_isolation') in ('read committed', 'read uncommitted') then
        select state, queue into found_state, found_queue
        from jobs where id = target and task = task_name for key share;
    else
        select state, queue into found_state, found_queue
        from jobs where id = target and task = task_name for no key update;
    end if;
    if not found then
        return null;
    end if;
    update jobs set state = 5, scheduled_at = clock_timestamp(), woken_by = 2
    where id = target
        and (state = 4 and not asleep or state = 5 and scheduled_at > clock_timestamp());
    wakes := found;
    insert into events (job_id, version, woke, event) values (target, event_version, wakes, event);
    if wakes and (always_notify or exists (
        select from workers where sleeping and lapsed_at is null and (queues is null or found_queue = any(queues))
    )) then
        perform pg_notify(channel, found_queue);
    end if;
    return found_state;
end
$$;

-- The last statement of a `ctx.transaction()`: the checkpoint, or an error that aborts the transaction.
-- Guard: id, worker, claim, state and checkpoint number, and the worker's valid lease. Index: jobs_pkey.
-- A function, for its plan is kept: the fence is sent together with COMMIT, so it can't be prepared by the client, and
-- planning it each time costs more than doing it. Its settings hold inside of it only: a plan that was made while the
-- tables were empty must do when they are large.
create function {schema}.fence(job bigint, holder uuid, token int, predecessor int, data jsonb)
returns boolean language plpgsql
set search_path = {schema}, pg_temp set enable_seqscan = off set enable_bitmapscan = off as $$
begin
    update jobs set
        checkpoint = checkpoint + 1,
        execution_metadata = coalesce(data, execution_metadata)
    where id = job
        and state = 2
        and worker_id is not distinct from holder
        and claim = token
        and checkpoint = predecessor
        and exists (
            select from workers
            where workers.id = holder and lapsed_at is null and lease_until > clock_timestamp()
                and timeline = timeline()
        );
    if not found then
        -- In another isolation the lease is seen as it was at the transaction's beginning: it may be valid all the same.
        raise exception 'the lease of this attempt is lost' using errcode =
            case when current_setting('transaction_isolation') like 'read %' then 'PD001' else 'PD002' end;
    end if;
    return true;
end
$$;
