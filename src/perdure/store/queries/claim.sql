-- Take due jobs: larger priorities first, then by due time and id across the worker's queues.
-- One range scan a band (queue, priority), from its front; levels of priority are entered only while room is left.
-- Locks: the rows taken, skipping locked ones. Index: jobs_ready, then jobs_pkey.
-- No state in the update's condition: the rows are locked by the inner select, and it would invite jobs_ready.
-- A last row of nulls says that a due job was left out since somebody has it locked for a moment (a waiter for its
-- result, another worker's claim): it may be free at once, and nobody will notify. Looked for only when there is room.
with claimed as (
    update {schema}.jobs set
        state = 2, claim = claim + 1, attempt = attempt + 1, worker_id = %(worker)s,
        started_at = clock_timestamp(), claim_checkpoint = checkpoint
    where id = any(array(
        select due.id
        from (
            select distinct priority from {schema}.bands
            where %(queues)s::text[] is null or queue = any(%(queues)s::text[])
            order by priority desc
        ) as level
        cross join lateral (
            select front.id
            from (
                select distinct queue from {schema}.bands
                where priority = level.priority and (%(queues)s::text[] is null or queue = any(%(queues)s::text[]))
            ) as band
            cross join lateral (
                select jobs.id, jobs.scheduled_at from {schema}.jobs
                where jobs.state in (0, 3, 4, 5) and jobs.scheduled_at is not null and not jobs.suspect
                    and jobs.queue = band.queue and jobs.priority = level.priority
                    and jobs.scheduled_at <= statement_timestamp()
                order by jobs.scheduled_at, jobs.id
                limit %(want)s::int
                for no key update skip locked
            ) as front
            order by front.scheduled_at, front.id
            limit %(want)s::int
        ) as due
        limit %(want)s::int
    ))
    returning {claim_columns}
)
select * from claimed
union all
select {no_claim}
where case when (select count(*) from claimed) < %(want)s::int then exists (
    select
    from (
        select distinct queue, priority from {schema}.bands
        where %(queues)s::text[] is null or queue = any(%(queues)s::text[])
    ) as band
    cross join lateral (
        -- Fewer were claimed than this: if there are others, one of them is in it.
        select jobs.id from {schema}.jobs
        where jobs.state in (0, 3, 4, 5) and jobs.scheduled_at is not null and not jobs.suspect
            and jobs.queue = band.queue and jobs.priority = band.priority
            and jobs.scheduled_at <= statement_timestamp()
        order by jobs.scheduled_at, jobs.id
        limit %(want)s::int
    ) as front
    where front.id not in (select id from claimed)
) else false end
