-- Somebody waits for these jobs' ends: whoever ends them notifies. Answers those whose row somebody has locked: they are
-- asked for again. A batch that waited for one would hold the others' rows meanwhile, and could deadlock with a caller's.
-- A job that ended before has left the table, so the reading afterwards sees its end: no wake-up is lost.
-- Index: jobs_pkey. Locks: the rows, in the order of ids, skipping locked ones.
with asked as (
    update {schema}.jobs set awaited = true
    where id = any(array(
        select id from {schema}.jobs
        where id = any(%(ids)s::bigint[]) and not awaited
        order by id for no key update skip locked
    ))
    returning id
)
select id from {schema}.jobs where id = any(%(ids)s::bigint[]) and not awaited and id not in (select id from asked)
