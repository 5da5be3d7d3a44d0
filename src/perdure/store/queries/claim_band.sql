-- Take due jobs of one band (queue, priority), as claim.sql does, at three quarters of its cost: for a worker that
-- believes that it serves no other. If there is one, nothing is taken: its jobs may be of larger priority. The last row,
-- which is always there, tells by 1 or 0 whether there is; and whether a due job was left out since somebody has it locked
-- for a moment; and when all that was, by the database's clock.
-- Locks: the rows taken, skipping locked ones. Index: jobs_ready, then jobs_pkey.
-- Guard: as in claim.sql.
with claimed as (
    update {schema}.jobs set
        state = 2, claim = least(claim, 2147483646) + 1, attempt = least(attempt, 2147483646) + 1, worker_id = %(worker)s,
        started_at = clock_timestamp(), claim_checkpoint = checkpoint
    where id = any(array(
            select id from {schema}.jobs
            where state in (0, 3, 4, 5) and scheduled_at is not null and not suspect
                and queue = %(queue)s::text and priority = %(priority)s::smallint
                and scheduled_at <= statement_timestamp()
                and (scheduled_at, id) >= (
                    coalesce(to_timestamp(%(floor_at)s::float8), '-infinity'), %(floor_id)s::bigint
                )
            order by scheduled_at, id
            limit %(want)s::int
            for no key update skip locked
        ))
        and not exists (
            select from {schema}.bands
            where (queue <> %(queue)s::text or priority <> %(priority)s::smallint)
                and (%(queues)s::text[] is null or queue = any(%(queues)s::text[]))
        )
        and exists (
            select from {schema}.workers
            where workers.id = %(worker)s and lapsed_at is null and lease_until > clock_timestamp()
                and timeline = {schema}.timeline()
        )
    returning {claim_columns}
)
select * from claimed
union all
select null, null,
    exists (
        select from {schema}.bands
        where (queue <> %(queue)s::text or priority <> %(priority)s::smallint)
            and (%(queues)s::text[] is null or queue = any(%(queues)s::text[]))
    )::int,
    case when (select count(*) from claimed) < %(want)s::int then (
        -- Fewer were claimed than this: if there are more, one of them is locked.
        select count(*) > (select count(*) from claimed) from (
            select from {schema}.jobs
            where state in (0, 3, 4, 5) and scheduled_at is not null and not suspect
                and queue = %(queue)s::text and priority = %(priority)s::smallint
                and scheduled_at <= statement_timestamp()
                and (scheduled_at, id) >= (
                    coalesce(to_timestamp(%(floor_at)s::float8), '-infinity'), %(floor_id)s::bigint
                )
            order by scheduled_at, id
            limit %(want)s::int
        ) as front
    )::int else 0 end,
    {asked_at}
