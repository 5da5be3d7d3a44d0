-- What has become of attempts whose write found no row: still running (and with which flags), settled, lost, or gone
-- (no row at all), and by whose lapse it is blamed. A row that somebody has locked is answered as it was, and as locked: ask again.
-- Locks: the jobs' rows by id, briefly, skipping locked ones. Index: jobs_pkey of both tables.
with free as (
    select id, claim, state, worker_id, checkpoint, cancel_requested, proceed_requested, lapsed_worker_id
    from {schema}.jobs where id = any(%(ids)s::bigint[])
    order by id
    for share skip locked
)
select id, claim, state, worker_id, checkpoint, cancel_requested, proceed_requested, false, lapsed_worker_id from free
union all
select id, claim, state, worker_id, checkpoint, cancel_requested, proceed_requested, true, lapsed_worker_id
from {schema}.jobs where id = any(%(ids)s::bigint[]) and not (id = any(array(select id from free)))
union all
select id, claim, state, worker_id, checkpoint, false, false, false, null
from {schema}.finished_jobs where id = any(%(ids)s::bigint[])
