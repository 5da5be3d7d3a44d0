-- Somebody waits for these jobs' ends: whoever ends them notifies. Returns nothing; read the job afterwards.
-- A job that ended before has left the table, so the reading afterwards sees its end: no wake-up is lost.
-- Index: jobs_pkey. Locks: the rows, in the order of ids.
update {schema}.jobs set awaited = true
where id = any(array(
    select id from {schema}.jobs where id = any(%(ids)s::bigint[]) and not awaited order by id for no key update
))
