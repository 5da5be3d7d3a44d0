-- Store one job; tell the sleeping workers of its queue when it is due now.
-- Locks: none that lasts (bands isn't unique: see the migration). Index: none but for inserting.
-- $notify: notify whoever sleeps (a caller's transaction may last: then it can't be known who sleeps at its end).
-- An insert of values, whose two questions are asked at its end: CTEs and a select to insert from would cost a lone
-- start a tenth of its time in the server.
insert into {schema}.jobs (task, queue, priority, created_at, scheduled_at, deadline_at, version, metadata,
    execution_metadata)
values (
    %(task)s::text, %(queue)s::text, %(priority)s::smallint, statement_timestamp(),
    greatest(statement_timestamp(), coalesce(%(at)s::timestamptz, statement_timestamp() + %(after)s::interval)),
    greatest(statement_timestamp(), coalesce(%(at)s::timestamptz, statement_timestamp() + %(after)s::interval))
        + %(deadline)s::interval,
    %(version)s::int, %(metadata)s::jsonb, %(execution_metadata)s::jsonb
)
returning id, created_at, scheduled_at, deadline_at,
    case when not exists (
        select from {schema}.bands where queue = %(queue)s::text and priority = %(priority)s::smallint
    ) then {schema}.add_band(%(queue)s::text, %(priority)s::smallint) is null end,
    case when scheduled_at = created_at
        and (%(notify)s::boolean or exists (
            select from {schema}.workers
            where sleeping and lapsed_at is null and (queues is null or %(queue)s::text = any(queues))
        ))
    then pg_notify(%(channel)s::text, %(queue)s::text) is null end
