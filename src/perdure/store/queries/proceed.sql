-- Let one job go on: a suspended one is due (now, or then); a running one, and one that sleeps in `ctx.sleep()`, remember
-- it for their next suspension; one that was let go on for later may be brought forward. With payloads, under the lock of
-- lock.sql, these are stored with it; then one that would remember it is left: its handler goes on from what it has.
-- Answers whether it goes on, and with the job as it is now; with no row when it isn't live, or of another task.
-- Guard: the state, under the row's lock; with payloads the checkpoint that they were made of, too. The lock is taken
-- first, so that what is answered is what was decided by. Index: jobs_pkey. Locks: the job's row.
with found as materialized (
    select *, (state = 2 or (state = 4 and asleep)) as remembers from {schema}.jobs
    where id = %(id)s::bigint and (%(task)s::text is null or task = %(task)s::text)
    for no key update
), due as materialized (
    select greatest(clock_timestamp(), coalesce(%(at)s::timestamptz, clock_timestamp() + %(after)s::interval)) as due_at
    from found
), proceeded as (
    update {schema}.jobs set
        -- By the locked row alone: while another's change was waited for, the snapshot's has grown old, which PostgreSQL
        -- notices only once it has checked the constraints of what would have become of that one.
        state = case when found.remembers then found.state else 5 end,
        worker_id = found.worker_id,
        scheduled_at = case when found.remembers then found.scheduled_at else due.due_at end,
        proceed_requested = found.remembers,
        -- Several count as one: the earliest.
        proceed_at = case when not found.remembers then null
            when found.proceed_requested then least(found.proceed_at, due.due_at) else due.due_at end,
        woken_by = case when found.remembers then found.woken_by else 1 end,
        checkpoint = found.checkpoint + (%(execution_metadata)s::jsonb is not null)::int,
        execution_metadata = coalesce(%(execution_metadata)s::jsonb, found.execution_metadata),
        metadata = coalesce(%(metadata)s::jsonb, found.metadata),
        version = coalesce(%(version)s::int, found.version)
    from found, due
    where jobs.id = found.id
        and (found.state = 4 and not found.asleep
            or found.state = 5 and found.scheduled_at > due.due_at
            or found.remembers and %(execution_metadata)s::jsonb is null)
        and (%(checkpoint)s::int is null or found.checkpoint = %(checkpoint)s::int)
    returning jobs.*
)
select true, case when state = 5 and exists (
        select from {schema}.workers
        where sleeping and lapsed_at is null and (queues is null or proceeded.queue = any(queues))
    )
    then pg_notify(%(channel)s::text, queue) is null end, {live_columns}
from proceeded
union all
select false, null, {live_columns} from found where not exists (select from proceeded)
