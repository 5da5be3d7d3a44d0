-- Marks the leases that have lapsed (from then on their ids are dead), asked under the row's lock by the database's
-- clock, and those of another time line, for which nobody is to blame; cuts leases that lie further ahead than they last
-- (the clock was set back); and answers in one row: the ids just marked; where $scans, ids that hold jobs without a lease,
-- also those of claims that landed after the lapse; seconds until the first lease of another worker ends; whether a suspect
-- of the worker's queues is due; whether a job that no worker holds is past its deadline, and seconds to the next deadline of
-- such a job.
-- The scan is a loose one: one probe a distinct worker, in the gaps between those that have a lease. Else it would step over
-- the dead entries of all that these have held, which are many while somebody holds a snapshot.
-- Ids marked just now may hold jobs, too: their jobs are seen by the next sweep.
-- A row that somebody has spoilt stops no sweep: NaN, infinities and 1e300 seconds are no intervals, so a lease counts
-- as one of 0 s to 36,500 days, which is what the configuration allows.
-- Locks: the workers' rows, skipping locked ones (a renewal on its way keeps its lease). Index: jobs_held, jobs_suspect,
-- jobs_deadline.
with recursive lapsed as (
    update {schema}.workers set lapsed_at = clock_timestamp(), sleeping = false,
        left_at = case when timeline <> {schema}.timeline() then clock_timestamp() end
    where id = any(array(
        select id from {schema}.workers
        where lapsed_at is null and (lease_until <= clock_timestamp() or timeline <> {schema}.timeline())
        order by id for no key update skip locked
    )) and (lease_until <= clock_timestamp() or timeline <> {schema}.timeline())
    returning id
), shortened as (
    update {schema}.workers set
        lease_until = clock_timestamp() + least(greatest(lease_seconds, 0), 3153600000) * interval '1 s'
    where id = any(array(
        select id from {schema}.workers
        where lapsed_at is null
            and lease_until > clock_timestamp() + (least(greatest(lease_seconds, 0), 3153600000) + 1) * interval '1 s'
        order by id for no key update skip locked
    ))
), edge as (
    select id from {schema}.workers where lapsed_at is null
    union all
    values ('00000000-0000-0000-0000-000000000000'::uuid)
), gap as (
    select id as after, lead(id, 1, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid) over (order by id) as before from edge
    where %(scans)s::boolean
), holder as (
    (
        select first.worker_id, gap.before
        from gap cross join lateral (
            select worker_id from {schema}.jobs where worker_id > gap.after and worker_id < gap.before
            order by worker_id limit 1
        ) as first
        union all
        -- The ends, which are no worker's, but may be in a row that somebody has spoilt.
        select distinct worker_id, null::uuid from {schema}.jobs
        where worker_id in ('00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    )
    union all
    select next.worker_id, holder.before
    from holder cross join lateral (
        select worker_id from {schema}.jobs where worker_id > holder.worker_id and worker_id < holder.before
        order by worker_id limit 1
    ) as next
)
select
    array(select id from lapsed),
    array(select worker_id from holder),
    (
        select extract(epoch from min(lease_until) - clock_timestamp())::float8
        from {schema}.workers
        where lapsed_at is null and id <> %(worker)s and lease_until > clock_timestamp() and isfinite(lease_until)
    ),
    exists (
        select from {schema}.jobs
        where state in (0, 3, 4, 5) and scheduled_at is not null and suspect and scheduled_at <= statement_timestamp()
            and (%(queues)s::text[] is null or queue = any(%(queues)s::text[]))
    ),
    exists (select from {schema}.jobs where worker_id is null and deadline_at <= statement_timestamp()),
    (
        select extract(epoch from min(deadline_at) - clock_timestamp())::float8
        from {schema}.jobs where worker_id is null and deadline_at > statement_timestamp() and isfinite(deadline_at)
    )
