-- Cancel one job that isn't running: it ends now. Guard: the state, under the row's lock. Index: jobs_pkey.
-- Locks: the job's row.
with ended as (
    delete from {schema}.jobs where id = %(id)s::bigint and state in (0, 1, 3, 4, 5)
    returning *
), kept as (
    insert into {schema}.finished_jobs (id, scheduled_at, created_at, started_at, finished_at, worker_id, claim, attempt,
        retry_number, checkpoint, state, priority, queue, task, metadata, execution_metadata, error, last_error, progress,
        woken_by, deadline_at, version)
    select id, scheduled_at, created_at, started_at, clock_timestamp(), worker_id, claim, attempt,
        retry_number, checkpoint, 8, priority, queue, task, metadata, execution_metadata, error, last_error, progress,
        woken_by, deadline_at, version
    from ended
    returning id
)
select kept.id, case when ended.awaited then pg_notify(%(done_channel)s::text, kept.id::text) is null end
from kept join ended using (id)
