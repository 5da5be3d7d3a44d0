-- A worker that starts with these tasks makes the jobs due that waited for the code.
-- Guard: the state. Locks: the rows in any order (see strays.sql), skipping locked ones, so that it never waits.
-- Index: jobs_unreadable, then jobs_pkey.
update {schema}.jobs set scheduled_at = least(created_at, clock_timestamp()), unreadable = 1
where id = any(array(
    select id from {schema}.jobs
    where unreadable > 0 and task = any(%(names)s::text[]) and state = 0 and scheduled_at > clock_timestamp()
    limit 10000
    for no key update skip locked
))
returning id
