-- Was a COMMIT that nobody acknowledged done? Taking the number that it would have taken answers for good: if this
-- finds its row, the other can never land; if not, `settlement.sql` tells whether it has landed.
-- It goes on by two, for one further is where the COMMIT would have been: so it can be asked again when its own answer is
-- lost, and says the same. Nothing is stored, so it isn't the attempt's progress: a worker's loss counts as it would have.
-- Guard: id, worker, claim, state and checkpoint number. Locks: the job's row; nothing is found
-- when somebody has it locked, a COMMIT on its way for one: asked again, so that a lane never waits.
-- Index: jobs_pkey.
update {schema}.jobs set checkpoint = %(checkpoint)s::int + 2,
    claim_checkpoint = claim_checkpoint + (%(checkpoint)s::int + 2 - checkpoint)
where id = any(array(
        select id from {schema}.jobs where id = %(id)s::bigint for no key update skip locked
    ))
    and state = 2
    and worker_id is not distinct from %(worker)s
    and claim = %(claim)s::int
    and checkpoint in (%(checkpoint)s::int, %(checkpoint)s::int + 2)
returning checkpoint
