-- How far running attempts are, in a batch. Persists nothing else.
-- Guard: id, worker, claim and state. Locks: the jobs' rows by id, skipping locked ones (never written then: newer
-- progress follows). Index: jobs_pkey; HOT where the page has room.
update {schema}.jobs set
    progress = (%(progress)s::json[])[width_bucket(id, %(ids)s::bigint[])]
where id = any(array(
        select id from {schema}.jobs where id = any(%(ids)s::bigint[]) order by id for no key update skip locked
    ))
    and state = 2
    and worker_id is not distinct from %(worker)s
    and claim = (%(claims)s::int[])[width_bucket(id, %(ids)s::bigint[])]
