-- New execution metadata of running attempts, in a batch; each write names the checkpoint that it follows.
-- Guard: id, worker, claim, state and checkpoint number, and the worker's valid lease.
-- Locks: the jobs' rows by id, skipping locked ones (written later). Index: jobs_pkey; HOT where the page has room.
update {schema}.jobs set
    checkpoint = checkpoint + 1,
    execution_metadata = (%(execution_metadata)s::jsonb[])[width_bucket(id, %(ids)s::bigint[])]
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
    )
returning id
