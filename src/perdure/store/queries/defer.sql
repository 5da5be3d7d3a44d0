-- Jobs that this worker can't read (unknown task, undecodable payload) wait at growing delays, 60 s at most. No retry is
-- spent; the number of an attempt that hasn't begun is given back. Cancel requests: as put_back.sql.
-- Guard: id, worker, claim, state, no cancel request. Locks: the rows by id, skipping locked ones. Index: jobs_pkey.
update {schema}.jobs set
    state = 0, worker_id = null,
    attempt = attempt - (not (%(began)s::boolean[])[width_bucket(id, %(ids)s::bigint[])])::int,
    unreadable = least(greatest(unreadable, 0) + 1, 1000),
    scheduled_at = clock_timestamp() + least(60, power(2, least(greatest(unreadable, 0), 6))) * interval '1 s',
    last_error = (%(last_errors)s::text[])[width_bucket(id, %(ids)s::bigint[])]
where id = any(array(
        select id from {schema}.jobs where id = any(%(ids)s::bigint[]) order by id for no key update skip locked
    ))
    and state = 2
    and worker_id is not distinct from %(worker)s
    and claim = (%(claims)s::int[])[width_bucket(id, %(ids)s::bigint[])]
    and not cancel_requested
returning id, extract(epoch from scheduled_at - clock_timestamp())::float8
