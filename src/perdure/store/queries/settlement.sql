-- What has become of attempts whose write found no row: still running (and with which flags), settled, lost, or gone
-- (no row at all). A row that somebody has locked is answered as it was, and as locked: ask again.
-- Locks: the jobs' rows by id, briefly, skipping locked ones. Index: jobs_pkey of both tables.
with free as (
    select id, claim, state, worker_id, checkpoint, cancel_requested, proceed_requested
    from {schema}.jobs where id = any(%(ids)s::bigint[])
    order by id
    for share skip locked
)
select id, claim, state, worker_id, checkpoint, cancel_requested, proceed_requested, false from free
union all
select id, claim, state, worker_id, checkpoint, cancel_requested, proceed_requested, true
from {schema}.jobs where id = any(%(ids)s::bigint[]) and not (id = any(array(select id from free)))
union all
select id, claim, state, worker_id, checkpoint, false, false, false
from {schema}.finished_jobs where id = any(%(ids)s::bigint[])
