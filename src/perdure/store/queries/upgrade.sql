-- Payloads that older code has written, as the code that has just claimed the job has them: its next checkpoint. It isn't
-- the attempt's progress, so a worker's loss counts as it would have.
-- Guard: id, worker, claim, state and checkpoint number, and the worker's valid lease. Locks: the job's row.
-- Index: jobs_pkey; HOT where the page has room.
update {schema}.jobs set
    metadata = %(metadata)s::jsonb,
    execution_metadata = %(execution_metadata)s::jsonb,
    version = %(version)s::int,
    checkpoint = checkpoint + 1,
    claim_checkpoint = claim_checkpoint + 1
where id = any(array(
        select id from {schema}.jobs where id = %(id)s::bigint for no key update skip locked
    ))
    and state = 2
    and worker_id is not distinct from %(worker)s
    and claim = %(claim)s::int
    and checkpoint = %(checkpoint)s::int
    and exists (
        select from {schema}.workers
        where workers.id = %(worker)s and lapsed_at is null and lease_until > clock_timestamp()
            and timeline = {schema}.timeline()
    )
returning id
