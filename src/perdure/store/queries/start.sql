-- Store one job; tell the sleeping workers of its queue when it is due now.
-- Locks: none that lasts (bands isn't unique: see the migration). Index: none but for inserting.
-- $notify: notify whoever sleeps (a caller's transaction may last: then it can't be known who sleeps at its end).
-- Subqueries, not CTEs: these cost a lone start a tenth of its time. `offset 0` keeps the clock from being read twice.
with band as (
    insert into {schema}.bands (queue, priority)
    select %(queue)s::text, %(priority)s::smallint
    where not exists (select from {schema}.bands where queue = %(queue)s::text and priority = %(priority)s::smallint)
)
insert into {schema}.jobs (task, queue, priority, created_at, scheduled_at, deadline_at, version, metadata,
    execution_metadata)
select %(task)s::text, %(queue)s::text, %(priority)s::smallint, now, due_at,
    due_at + %(deadline)s::interval, %(version)s::int, %(metadata)s::jsonb, %(execution_metadata)s::jsonb
from (
    select now, greatest(now, coalesce(%(at)s::timestamptz, now + %(after)s::interval)) as due_at
    from (select clock_timestamp() as now offset 0) as clock
    offset 0
) as place
returning id, created_at, scheduled_at, deadline_at,
    case when scheduled_at = created_at
        and (%(notify)s::boolean or exists (
            select from {schema}.workers
            where sleeping and lapsed_at is null and (queues is null or %(queue)s::text = any(queues))
        ))
    then pg_notify(%(channel)s::text, %(queue)s::text) is null end
