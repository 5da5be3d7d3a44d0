-- A worker that starts with these tasks makes the jobs due that waited for the code; answers how many there were, and how many
-- waited, those included that somebody had locked for a moment.
-- Guard: the state. Locks: the rows in any order (see strays.sql), skipping locked ones, so that it never waits.
-- Index: jobs_unreadable, then jobs_pkey.
with waiting as materialized (
    select id from {schema}.jobs
    where unreadable > 0 and task = any(%(names)s::text[]) and state = 0 and scheduled_at > clock_timestamp()
    limit %(limit)s::int
), revived as (
    update {schema}.jobs set scheduled_at = least(created_at, clock_timestamp()), unreadable = 1
    where id = any(array(
        select id from {schema}.jobs
        where id = any(array(select id from waiting)) and state = 0 and scheduled_at > clock_timestamp()
        for no key update skip locked
    ))
    returning id
)
select (select count(*) from revived), (select count(*) from waiting)
