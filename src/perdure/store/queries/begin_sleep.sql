-- A sleep is a step whose result is the time of its end. This stores it, or finds it stored: so a sleep that is begun
-- again, by whatever attempt, ends when it would have. (What is found is written again as it is: so it is answered even if
-- a first try, whose answer was lost, has stored it after this statement's snapshot.) No checkpoint is spent.
-- Guard: id, worker, claim, state, and the worker's valid lease. Locks: the job's row; nothing is found when somebody has
-- it locked, so that a lane never waits. Index: jobs_pkey, steps_pkey.
with held as (
    select id from {schema}.jobs
    where id = %(id)s::bigint
        and state = 2
        and worker_id is not distinct from %(worker)s
        and claim = %(claim)s::int
        and exists (
            select from {schema}.workers
            where workers.id = %(worker)s and lapsed_at is null and lease_until > clock_timestamp()
        )
    for no key update skip locked
), stored as (
    insert into {schema}.steps (job_id, key, result)
    select id, %(key)s::text, to_json(clock_timestamp() + %(seconds)s::float8 * interval '1 s') from held
    on conflict (job_id, key) do update set result = steps.result
    returning (result #>> '{}')::timestamptz as until
)
select until, until <= clock_timestamp() from stored
