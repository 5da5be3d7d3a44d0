-- Was a COMMIT that nobody acknowledged done? Taking the number that it would have taken answers for good: if this
-- finds its row, the other can never land; if not, `settlement.sql` tells whether it has landed.
-- Guard: id, worker, claim, state and checkpoint number. Locks: the job's row: it waits for a COMMIT on its way.
-- Index: jobs_pkey.
update {schema}.jobs set checkpoint = checkpoint + 1
where id = %(id)s::bigint
    and state = 2
    and worker_id is not distinct from %(worker)s
    and claim = %(claim)s::int
    and checkpoint = %(checkpoint)s::int
returning id
