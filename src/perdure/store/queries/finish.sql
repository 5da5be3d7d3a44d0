-- Final outcomes of attempts, in a batch: the rows move to finished_jobs, and whoever waits for one is told.
-- Guard: id, worker, claim, state and checkpoint number, the holder's valid lease; and no cancel request that a
-- decision to fail didn't know (it is decided anew). Ids are sorted: width_bucket finds a row's place in the arrays
-- without a join, so there is one plan only; and all batches lock in one order. For the one plan, too, the worker is
-- compared by "is not distinct from": "=" invites jobs_held, which reads all that the worker holds for each batch.
-- The events that the outcome has used are consumed with it: by id, of the rows that were really moved. Not by a join,
-- whose order would depend on what the planner thinks of tables that are empty at first: each is looked up by its key.
-- Locks: the jobs' rows by id, skipping locked ones (they are settled later), in the mode that a sender's open
-- transaction holds up; then the events. Index: jobs_pkey, events_pkey.
with ended as (
    delete from {schema}.jobs
    where id = any(array(
            select id from {schema}.jobs where id = any(%(ids)s::bigint[]) order by id for update skip locked
        ))
        and state = 2
        and worker_id is not distinct from %(worker)s
        and claim = (%(claims)s::int[])[width_bucket(id, %(ids)s::bigint[])]
        and checkpoint = (%(checkpoints)s::int[])[width_bucket(id, %(ids)s::bigint[])]
        and not (cancel_requested and (%(states)s::smallint[])[width_bucket(id, %(ids)s::bigint[])] = 7)
        and exists (
            select from {schema}.workers
            where workers.id = %(holder)s and lapsed_at is null and lease_until > clock_timestamp()
                and timeline = {schema}.timeline()
        )
    returning *
), kept as (
    insert into {schema}.finished_jobs (id, scheduled_at, created_at, started_at, finished_at, worker_id, claim, attempt,
        retry_number, checkpoint, state, priority, queue, task, metadata, execution_metadata, result, error,
        last_error, progress, woken_by, deadline_at, version)
    select id, scheduled_at, created_at, started_at, clock_timestamp(), worker_id, claim, attempt,
        retry_number,
        checkpoint + ((%(execution_metadata)s::jsonb[])[width_bucket(id, %(ids)s::bigint[])] is not null)::int,
        (%(states)s::smallint[])[width_bucket(id, %(ids)s::bigint[])],
        priority, queue, task, metadata,
        coalesce((%(execution_metadata)s::jsonb[])[width_bucket(id, %(ids)s::bigint[])], execution_metadata),
        (%(results)s::json[])[width_bucket(id, %(ids)s::bigint[])],
        (%(errors)s::json[])[width_bucket(id, %(ids)s::bigint[])],
        (%(last_errors)s::text[])[width_bucket(id, %(ids)s::bigint[])],
        progress, woken_by, deadline_at, version
    from ended
    returning id
), consumed as (
    delete from {schema}.events where ctid = any(array(
        select found.ctid
        from unnest(%(event_jobs)s::bigint[], %(event_ids)s::bigint[]) as used (job_id, id)
        cross join lateral (
            select events.ctid from {schema}.events where events.job_id = used.job_id and events.id = used.id limit 1
        ) as found
        where used.job_id = any(array(select id from ended))
    ))
)
select (select count(*) from kept),
    (select count(pg_notify(%(done_channel)s::text, id::text)) from ended where awaited)
