-- The last statement of a `ctx.transaction()`, sent together with its COMMIT: the checkpoint, or an error (PD001)
-- that aborts the transaction. Guard: id, worker, claim, state and checkpoint number, and the worker's valid lease.
-- Locks: the job's row, from here to the COMMIT that follows at once. Index: jobs_pkey.
with moved as (
    update {schema}.jobs set
        checkpoint = checkpoint + 1,
        execution_metadata = coalesce(%(execution_metadata)s::jsonb, execution_metadata)
    where id = %(id)s::bigint
        and state = 2
        and worker_id is not distinct from %(worker)s
        and claim = %(claim)s::int
        and checkpoint = %(checkpoint)s::int
        and exists (
            select from {schema}.workers
            where workers.id = %(worker)s and lapsed_at is null and lease_until > clock_timestamp()
        )
    returning id
)
select case when exists (select from moved) then true else {schema}.lease_lost() end
