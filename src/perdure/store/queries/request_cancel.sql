-- Ask for the cancellation of a running job: whatever it ends with now but a value makes it cancelled. Its worker is told
-- at once, and each time that it is asked for: a notification may get lost.
-- Guard: the state, under the row's lock. Index: jobs_pkey. Locks: the job's row.
with asked as (
    update {schema}.jobs set cancel_requested = true
    where id = %(id)s::bigint and state = 2
    returning id
)
select id, pg_notify(%(cancel_channel)s::text, id::text) is null from asked
