-- An operator's retry: one ended job is pending again, due now, with its numbers going on and its counters at zero; the
-- attempt that ended it becomes history. With payloads it begins afresh: steps and unread events are forgotten.
-- Answers with the job as it is now; with no row when there is no such ended job.
-- Guard: that it has ended, under the row's lock; with payloads, since the attempt that they were made of.
-- Index: finished_jobs_pkey, attempts_pkey, steps_pkey, events_pkey. Locks: the job's row.
with taken as (
    delete from {schema}.finished_jobs
    where id = %(id)s::bigint and (%(attempt)s::int is null or attempt = %(attempt)s::int)
    returning *
), ended as (
    -- A job that was cancelled while it waited has a row of its last attempt already.
    insert into {schema}.attempts (job_id, attempt, worker_id, started_at, ended_at, ending, woken_by, error)
    select id, attempt, worker_id, started_at, finished_at, state + 1, woken_by, error from taken where attempt > 0
    on conflict (job_id, attempt) do nothing
), forgotten_attempt as (
    -- The newest 100 are kept, as in release.sql.
    delete from {schema}.attempts where job_id = (select id from taken) and attempt = (select attempt - 100 from taken)
), forgotten_steps as (
    delete from {schema}.steps
    where job_id = (select id from taken) and %(execution_metadata)s::jsonb is not null
), forgotten_events as (
    delete from {schema}.events
    where job_id = (select id from taken) and %(execution_metadata)s::jsonb is not null
), band as (
    insert into {schema}.bands (queue, priority)
    select queue, priority from taken
    where not exists (select from {schema}.bands where bands.queue = taken.queue and bands.priority = taken.priority)
), pending as (
    insert into {schema}.jobs (id, state, scheduled_at, created_at, started_at, claim, attempt, checkpoint, claim_checkpoint,
        priority, queue, task, metadata, execution_metadata, progress, version)
    select id, 0, clock_timestamp(), created_at, started_at, claim, attempt,
        checkpoint + (%(execution_metadata)s::jsonb is not null)::int,
        checkpoint + (%(execution_metadata)s::jsonb is not null)::int,
        priority, queue, task, coalesce(%(metadata)s::jsonb, metadata),
        coalesce(%(execution_metadata)s::jsonb, execution_metadata),
        case when %(execution_metadata)s::jsonb is null then progress end, coalesce(%(version)s::int, version)
    from taken
    returning *
)
select case when exists (
        select from {schema}.workers
        where sleeping and lapsed_at is null and (queues is null or pending.queue = any(queues))
    )
    then pg_notify(%(channel)s::text, queue) is null end, {live_columns}
from pending
