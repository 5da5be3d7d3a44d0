-- Jobs that were claimed and never started go back untouched: place and attempt number too.
-- The claim's number stays spent, so that a late copy of this can't hit a later claim.
-- A job whose cancellation was requested is left: the search for strays ends it.
-- Guard: id, worker, claim, state, no cancel request. Locks: the rows by id, skipping locked ones. Index: jobs_pkey.
update {schema}.jobs set
    state = 0, worker_id = null, attempt = attempt - 1,
    started_at = case when attempt > 1 then started_at end
where id = any(array(
        select id from {schema}.jobs where id = any(%(ids)s::bigint[]) order by id for no key update skip locked
    ))
    and state = 2
    and worker_id is not distinct from %(worker)s
    and claim = (%(claims)s::int[])[width_bucket(id, %(ids)s::bigint[])]
    and not cancel_requested
returning id
