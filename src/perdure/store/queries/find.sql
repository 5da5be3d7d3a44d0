-- The first live jobs that a query asks for, by id. All live jobs are read, and none that has ended.
select {live_columns} from {schema}.jobs
where (%(states)s::smallint[] is null or state = any(%(states)s::smallint[]))
    and (%(names)s::text[] is null or task = any(%(names)s::text[]))
    and (%(queues)s::text[] is null or queue = any(%(queues)s::text[]))
    and (%(metadata)s::jsonb is null or metadata @> %(metadata)s::jsonb)
    and (%(execution_metadata)s::jsonb is null or execution_metadata @> %(execution_metadata)s::jsonb)
    and (%(created_after)s::timestamptz is null or created_at > %(created_after)s::timestamptz)
    and (%(max_scheduled_at)s::timestamptz is null or scheduled_at <= %(max_scheduled_at)s::timestamptz)
order by id
limit %(limit)s::int
