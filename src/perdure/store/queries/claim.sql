-- Take due jobs: larger priorities first, then by due time and id across the worker's queues.
-- One range scan a band (queue, priority), from its floor where one is given (what is before is known to be taken), else
-- from its front; levels of priority are entered only while room is left.
-- Locks: the rows taken, skipping locked ones. Index: jobs_ready, then jobs_pkey.
-- Guard: the worker's lease is valid, else its jobs would be rescued again and again while it doesn't know that it has
-- lost; and it was registered on the present time line: else it may hold other jobs of the same numbers.
-- No state in the update's condition: the rows are locked by the inner select, and it would invite jobs_ready.
-- The last row, which is always there, tells by 1 or 0 whether a due job was left out since somebody has it locked for a
-- moment (a waiter for its result, another worker's claim): it may be free at once, and nobody will notify. Looked for
-- only when there is room. And it tells when all that was, by the database's clock.
with band as materialized (
    select distinct bands.queue, bands.priority,
        coalesce(to_timestamp(floor_at), to_timestamp(%(others_at)s::float8), '-infinity') as floor_at,
        coalesce(floor_id, 0) as floor_id
    from {schema}.bands left join unnest(
        %(floor_queues)s::text[], %(floor_priorities)s::smallint[], %(floor_ats)s::float8[], %(floor_ids)s::bigint[]
    ) as known (queue, priority, floor_at, floor_id) on known.queue = bands.queue and known.priority = bands.priority
    where %(queues)s::text[] is null or bands.queue = any(%(queues)s::text[])
), claimed as (
    update {schema}.jobs set
        state = 2, claim = least(claim, 2147483646) + 1, attempt = least(attempt, 2147483646) + 1, worker_id = %(worker)s,
        started_at = clock_timestamp(), claim_checkpoint = checkpoint
    where id = any(array(
        select due.id
        from (select distinct priority from band order by priority desc) as level
        cross join lateral (
            select front.id
            from band cross join lateral (
                select jobs.id, jobs.scheduled_at from {schema}.jobs
                where jobs.state in (0, 3, 4, 5) and jobs.scheduled_at is not null and not jobs.suspect
                    and jobs.queue = band.queue and jobs.priority = band.priority
                    and jobs.scheduled_at <= statement_timestamp()
                    and (jobs.scheduled_at, jobs.id) >= (band.floor_at, band.floor_id)
                order by jobs.scheduled_at, jobs.id
                limit %(want)s::int
                for no key update skip locked
            ) as front
            where band.priority = level.priority
            order by front.scheduled_at, front.id
            limit %(want)s::int
        ) as due
        limit %(want)s::int
    ))
        and exists (
            select from {schema}.workers
            where workers.id = %(worker)s and lapsed_at is null and lease_until > clock_timestamp()
                and timeline = {schema}.timeline()
        )
    returning {claim_columns}
)
select * from claimed
union all
select null, null, null,
    case when (select count(*) from claimed) < %(want)s::int then exists (
        select
        from band cross join lateral (
            -- Fewer were claimed than this: if there are others, one of them is in it.
            select jobs.id from {schema}.jobs
            where jobs.state in (0, 3, 4, 5) and jobs.scheduled_at is not null and not jobs.suspect
                and jobs.queue = band.queue and jobs.priority = band.priority
                and jobs.scheduled_at <= statement_timestamp()
                and (jobs.scheduled_at, jobs.id) >= (band.floor_at, band.floor_id)
            order by jobs.scheduled_at, jobs.id
            limit %(want)s::int
        ) as front
        where front.id not in (select id from claimed)
    )::int else 0 end,
    {asked_at}
