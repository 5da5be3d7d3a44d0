-- Store many jobs of one task, ids in the order of the input.
-- Ids are allocated before the insert, since the order of "returning" isn't promised.
-- Locks and index: as start.sql.
with clock as materialized (
    select clock_timestamp() as now
), due as materialized (
    select now, greatest(now, coalesce(%(at)s::timestamptz, now + %(after)s::interval)) as scheduled_at from clock
), input as materialized (
    select nextval({job_ids}) as id, item.metadata, item.place
    from unnest(%(metadata)s::jsonb[]) with ordinality as item (metadata, place)
), band as (
    insert into {schema}.bands (queue, priority)
    select %(queue)s::text, %(priority)s::smallint
    where not exists (select from {schema}.bands where queue = %(queue)s::text and priority = %(priority)s::smallint)
), stored as (
    insert into {schema}.jobs (id, task, queue, priority, created_at, scheduled_at, deadline_at, version, metadata,
        execution_metadata)
    select input.id, %(task)s::text, %(queue)s::text, %(priority)s::smallint, due.now, due.scheduled_at,
        due.scheduled_at + %(deadline)s::interval, %(version)s::int, input.metadata, %(execution_metadata)s::jsonb
    from input, due
)
select (select array_agg(id order by place) from input), now, scheduled_at, scheduled_at + %(deadline)s::interval,
    case when scheduled_at = now
        and (%(notify)s::boolean or exists (
            select from {schema}.workers
            where sleeping and lapsed_at is null and (queues is null or %(queue)s::text = any(queues))
        ))
    then pg_notify(%(channel)s::text, %(queue)s::text) is null end
from due
