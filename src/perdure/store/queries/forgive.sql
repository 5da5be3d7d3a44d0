-- A worker whose lease lapsed reports again: its lapses weren't the jobs' fault. Answers how many of these jobs somebody had
-- locked for a moment: its own next claim, or a rescue that has counted the lapse and isn't committed yet. They are asked
-- for again.
-- Guard: the lapse that was counted, as it stands under the row's lock (the update's own snapshot may be older).
-- Locks: the rows by id, skipping locked ones. Index: jobs_pkey.
with free as materialized (
    select id, lapsed_worker_id, lapses from {schema}.jobs where id = any(%(ids)s::bigint[])
    order by id for no key update skip locked
), forgiven as (
    update {schema}.jobs set
        lapses = greatest(lapses - 1, 0), lapsed_worker_id = null,
        suspect = false
    where id = any(array(select id from free where lapsed_worker_id = %(worker)s and lapses > 0))
)
select count(*) from {schema}.jobs as asked
where asked.id = any(%(ids)s::bigint[]) and not (asked.id = any(array(select id from free)))
