-- Jobs of an exchange that were suspended, or let go on for later, go on at once when they have unread events: whichever,
-- if their attempt has taken one (`took`); else one that hasn't let the job go on before, so that a handler that doesn't
-- want its events yet is called once for them, and not over and over. Each is marked, instead of the highest number being
-- remembered, for one of a lower number may be committed later.
-- A later statement of the transaction that suspends, for its snapshot is taken after the suspension has its row's lock,
-- and a sender holds a lock on the row that excludes that one: whoever comes second sees what the first has done, so no
-- wake-up is lost.
-- A row that another has locked is left: it was suspended by an exchange of that one's, which looks as well.
-- Guard: suspended and not asleep, or proceeded for later; an event as above; under the rows' locks.
-- Locks: the rows of jobs to be woken by id, skipping locked ones; then their events, which nobody else writes to while
-- the job's row is locked and no attempt runs. Index: jobs_pkey, events_pkey.
with woken as (
    update {schema}.jobs set state = 5, scheduled_at = clock_timestamp(), woken_by = 2
    where id = any(array(
        select id from {schema}.jobs
        where id = any(%(ids)s::bigint[])
            and (state = 4 and not asleep or state = 5 and scheduled_at > clock_timestamp())
            and exists (
                select from {schema}.events
                where events.job_id = jobs.id and (not events.woke or jobs.id = any(%(took)s::bigint[]))
                offset 0  -- a look-up, never a join
            )
        order by id
        for no key update skip locked
    ))
    returning id, queue
), marked as (
    update {schema}.events set woke = true where job_id = any(array(select id from woken)) and not woke
)
select id,
    case when exists (
        select from {schema}.workers
        where sleeping and lapsed_at is null and (queues is null or woken.queue = any(queues))
    )
    then pg_notify(%(channel)s::text, queue) is null end
from woken
