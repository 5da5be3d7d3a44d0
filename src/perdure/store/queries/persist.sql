-- New execution metadata of running attempts (null: as it is stored), in a batch; each write names the checkpoint that it
-- follows, and spends a number.
-- With it, of the rows that were really written: the events that it has used are consumed, and the results of steps are
-- stored. (A step that ran again replaces what is stored: so does the checkpoint.)
-- Guard: id, worker, claim, state and checkpoint number, and the worker's valid lease.
-- Locks: the jobs' rows by id, skipping locked ones (written later); then events and steps. Index: jobs_pkey,
-- events_pkey, steps_pkey; HOT where the page has room.
with written as (
    update {schema}.jobs set
        checkpoint = checkpoint + 1,
        execution_metadata = coalesce((%(execution_metadata)s::jsonb[])[width_bucket(id, %(ids)s::bigint[])], execution_metadata)
    where id = any(array(
            select id from {schema}.jobs where id = any(%(ids)s::bigint[]) order by id for no key update skip locked
        ))
        and state = 2
        and worker_id is not distinct from %(worker)s
        and claim = (%(claims)s::int[])[width_bucket(id, %(ids)s::bigint[])]
        and checkpoint = (%(checkpoints)s::int[])[width_bucket(id, %(ids)s::bigint[])]
        and exists (
            select from {schema}.workers
            where workers.id = %(worker)s and lapsed_at is null and lease_until > clock_timestamp()
                and timeline = {schema}.timeline()
        )
    returning id
), consumed as (
    delete from {schema}.events where ctid = any(array(
        select found.ctid
        from unnest(%(event_jobs)s::bigint[], %(event_ids)s::bigint[]) as used (job_id, id)
        cross join lateral (
            select events.ctid from {schema}.events where events.job_id = used.job_id and events.id = used.id limit 1
        ) as found
        where used.job_id = any(array(select id from written))
    ))
), stored as (
    insert into {schema}.steps (job_id, key, result)
    select job_id, key, result
    from unnest(%(step_jobs)s::bigint[], %(step_keys)s::text[], %(step_results)s::json[]) as step (job_id, key, result)
    where job_id = any(array(select id from written))
    on conflict (job_id, key) do update set result = excluded.result, stored_at = clock_timestamp()
)
select id from written
