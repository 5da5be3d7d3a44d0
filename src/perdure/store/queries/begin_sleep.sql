-- A sleep is a step whose result is the time of its end, with the execution metadata that it was begun with where it has no
-- key of its own. This stores it, or finds it stored: so a sleep that is begun again, by whatever attempt, ends when it
-- would have. (What is found is written again: so it is answered even if a first try, whose answer was lost, has stored it
-- after this statement's snapshot.) No checkpoint is spent.
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
                and timeline = {schema}.timeline()
        )
    for no key update skip locked
), stored as (
    insert into {schema}.steps (job_id, key, result)
    select id, %(key)s::text, json_build_object(
        'until', clock_timestamp() + %(seconds)s::float8 * interval '1 s', 'found', %(found)s::json, 'version', %(version)s::int)
    from held
    on conflict (job_id, key) do update set result = case
        when steps.result ->> 'until' is null then steps.result  -- that of a step, which had this key
        when (steps.result ->> 'until')::timestamptz <= clock_timestamp() then steps.result
        else json_build_object(
            'until', steps.result -> 'until', 'found', %(found)s::json, 'version', %(version)s::int)  -- of the latest try
        end
    returning (result ->> 'until')::timestamptz as until, result -> 'found' as found, (result ->> 'version')::int as version
)
select until, until <= clock_timestamp(), case when json_typeof(found) <> 'null' then found end, version from stored
