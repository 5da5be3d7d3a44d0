-- Jobs of an exchange that were suspended, or let go on for later, go on at once when they have unread events. A later
-- statement of the transaction that suspends, for its snapshot is taken after the suspension has its row's lock, and a
-- sender holds a lock on the row that excludes that one: whoever comes second sees what the first has done, so no wake-up
-- is lost.
-- A row that another has locked is left: it was suspended by an exchange of that one's, which looks as well.
-- Guard: suspended and not asleep, or proceeded for later; an event; under the rows' locks.
-- Locks: the rows of jobs to be woken by id, skipping locked ones. Index: jobs_pkey, events_pkey.
with woken as (
    update {schema}.jobs set state = 5, scheduled_at = clock_timestamp(), woken_by = 2
    where id = any(array(
        select id from {schema}.jobs
        where id = any(%(ids)s::bigint[])
            and (state = 4 and not asleep or state = 5 and scheduled_at > clock_timestamp())
            and exists (select from {schema}.events where events.job_id = jobs.id offset 0)  -- a look-up, never a join
        order by id
        for no key update skip locked
    ))
    returning id, queue
)
select id,
    case when exists (select from {schema}.workers where sleeping and lapsed_at is null)
    then pg_notify(%(channel)s::text, queue) is null end
from woken
