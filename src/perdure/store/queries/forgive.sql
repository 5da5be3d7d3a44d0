-- A worker whose lease lapsed reports again: its lapses weren't the jobs' fault. Index: jobs_pkey.
-- Guard: the lapse that was counted. Locks: the rows by id, skipping locked ones.
update {schema}.jobs set
    lapses = greatest(lapses - 1, 0), lapsed_worker_id = null,
    suspect = false
where id = any(array(
        select id from {schema}.jobs where id = any(%(ids)s::bigint[]) order by id for no key update skip locked
    ))
    and lapsed_worker_id = %(worker)s
    and lapses > 0
