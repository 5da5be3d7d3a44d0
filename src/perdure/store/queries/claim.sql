-- Take due jobs: larger priorities first, then by due time and id across the worker's queues.
-- One range scan a band (queue, priority), from its front; levels of priority are entered only while room is left.
-- Locks: the rows taken, skipping locked ones. Index: jobs_ready, then jobs_pkey.
-- No state in the outer condition: the rows are locked by the inner select, and it would invite jobs_ready.
update {schema}.jobs set
    state = 2, claim = claim + 1, attempt = attempt + 1, worker_id = %(worker)s, started_at = clock_timestamp(), claim_checkpoint = checkpoint
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
