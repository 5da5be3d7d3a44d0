-- What has become of attempts whose write found no row: still running (and with which flags), settled, or lost.
-- A row that somebody has locked is missing: ask again. Index: jobs_pkey of both tables.
-- Locks: the jobs' rows by id, briefly.
with live as (
    select id, claim, state, worker_id, checkpoint, cancel_requested, proceed_requested
    from {schema}.jobs where id = any(%(ids)s::bigint[])
    order by id
    for share skip locked
)
select id, claim, state, worker_id, checkpoint, cancel_requested, proceed_requested from live
union all
select id, claim, state, worker_id, checkpoint, false, false
from {schema}.finished_jobs where id = any(%(ids)s::bigint[])
