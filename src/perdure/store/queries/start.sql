-- Store one job; tell the sleeping workers of its queue when it is due now.
-- Locks: none that lasts (bands isn't unique: see the migration). Index: none but for inserting.
-- $notify: notify whoever sleeps (a caller's transaction may last: then it can't be known who sleeps at its end).
with clock as materialized (
    select clock_timestamp() as now
), due as materialized (
    select now, greatest(now, coalesce(%(at)s::timestamptz, now + %(after)s::interval)) as scheduled_at from clock
), band as (
    insert into {schema}.bands (queue, priority)
    select %(queue)s::text, %(priority)s::smallint
    where not exists (select from {schema}.bands where queue = %(queue)s::text and priority = %(priority)s::smallint)
), job as (
    insert into {schema}.jobs (task, queue, priority, created_at, scheduled_at, deadline_at, version, metadata,
        execution_metadata)
    select %(task)s::text, %(queue)s::text, %(priority)s::smallint, now, scheduled_at,
        scheduled_at + %(deadline)s::interval, %(version)s::int, %(metadata)s::jsonb, %(execution_metadata)s::jsonb
    from due
    returning id, created_at, scheduled_at, deadline_at
)
select id, created_at, scheduled_at, deadline_at,
    case when scheduled_at = created_at
        and (%(notify)s::boolean or exists (
            select from {schema}.workers
            where sleeping and lapsed_at is null and (queues is null or %(queue)s::text = any(queues))
        ))
    then pg_notify(%(channel)s::text, %(queue)s::text) is null end
from job
