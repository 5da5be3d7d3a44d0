-- Let one job go on: a suspended one is due (now, or then); a running one remembers it; one that was let go on
-- for later may be brought forward. Guard: the state, under the row's lock. Index: jobs_pkey.
-- Locks: the job's row.
with proceeded as (
    update {schema}.jobs set
        state = case state when 4 then 5 else state end,
        scheduled_at = case state when 2 then scheduled_at
            else greatest(clock_timestamp(), coalesce(%(at)s::timestamptz, clock_timestamp() + %(after)s::interval)) end,
        proceed_requested = state = 2
    where id = %(id)s::bigint
        and (state in (2, 4)
            or state = 5 and scheduled_at > greatest(clock_timestamp(), coalesce(%(at)s::timestamptz, clock_timestamp() + %(after)s::interval)))
    returning id, state, queue
)
select id,
    case when state = 5 and exists (select from {schema}.workers where sleeping and lapsed_at is null)
    then pg_notify(%(channel)s::text, queue) is null end
from proceeded
