-- The events that these jobs haven't consumed: a page by job, in the order of the ids that are given, and event; of the
-- first job behind the event `after`. At most so many events and so many bytes as they are stored; but at least one.
-- Reads. Index: events_pkey.
select job_id, id, version, event
from (
    select page.*,
        sum(pg_column_size(event)) over (order by place, id) as bytes,
        row_number() over (order by place, id) as number
    from (
        select wanted.job_id, wanted.place, unread.id, unread.version, unread.event
        from unnest(%(ids)s::bigint[]) with ordinality as wanted (job_id, place)
        cross join lateral (
            select id, version, event from {schema}.events
            where events.job_id = wanted.job_id and (wanted.place > 1 or id > %(after)s::bigint)
            order by id
            limit %(limit)s::int
        ) as unread
        order by wanted.place, unread.id
        limit %(limit)s::int
    ) as page
) as measured
where number = 1 or bytes <= %(bytes)s::bigint
order by place, id
