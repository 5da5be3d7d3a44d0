-- Outcomes of attempts that go on later (retrying, suspended, proceeded, pending), in a batch.
-- Guard: id, worker, claim, state and checkpoint number, the holder's valid lease; and nothing that the decision
-- didn't know: a cancel request, or a remembered proceed of a job that is to be suspended. Rows that fail it stay
-- as they are and are decided anew. A row's place in the arrays: see finish.sql.
-- Of the rows that were really written: the events that the outcome has used are consumed, and the attempt goes into the
-- job's history, which keeps the newest 100.
-- A suspension that isn't a sleep must be followed by wake_unread.sql in the same transaction.
-- Locks: the jobs' rows by id, skipping locked ones (they are settled later), in the mode that a sender's open
-- transaction holds up; then events and attempts. Index: jobs_pkey, events_pkey, attempts_pkey.
with released as (
    update {schema}.jobs set
        state = (%(states)s::smallint[])[width_bucket(id, %(ids)s::bigint[])],
        worker_id = null,
        scheduled_at = case
            when (%(keep_places)s::boolean[])[width_bucket(id, %(ids)s::bigint[])] then scheduled_at
            when (%(use_proceeds)s::boolean[])[width_bucket(id, %(ids)s::bigint[])]
                then greatest(clock_timestamp(), proceed_at)
            when (%(due_at)s::timestamptz[])[width_bucket(id, %(ids)s::bigint[])] is not null
                then greatest(clock_timestamp(), (%(due_at)s::timestamptz[])[width_bucket(id, %(ids)s::bigint[])])
            else clock_timestamp()
                + (%(due_seconds)s::float8[])[width_bucket(id, %(ids)s::bigint[])] * interval '1 s'  -- null: never due
            end,
        retry_number = (%(retry_numbers)s::int[])[width_bucket(id, %(ids)s::bigint[])],
        scheduler_retries = (%(scheduler_retries)s::int[])[width_bucket(id, %(ids)s::bigint[])],
        lapses = (%(lapses)s::smallint[])[width_bucket(id, %(ids)s::bigint[])],
        asleep = (%(asleep)s::boolean[])[width_bucket(id, %(ids)s::bigint[])],
        woken_by = coalesce(
            nullif((%(woken_by)s::smallint[])[width_bucket(id, %(ids)s::bigint[])], -1), woken_by  -- -1: what it was
        ),
        suspect = (%(suspects)s::boolean[])[width_bucket(id, %(ids)s::bigint[])],
        -- Of a lapse that counts: that can be taken back.
        lapsed_worker_id = case
            when %(lapsed)s::boolean and (%(lapses)s::smallint[])[width_bucket(id, %(ids)s::bigint[])] > lapses
            then worker_id end,
        unreadable = 0,
        proceed_requested = proceed_requested and not (%(use_proceeds)s::boolean[])[width_bucket(id, %(ids)s::bigint[])],
        checkpoint = checkpoint + ((%(execution_metadata)s::jsonb[])[width_bucket(id, %(ids)s::bigint[])] is not null)::int,
        execution_metadata = coalesce((%(execution_metadata)s::jsonb[])[width_bucket(id, %(ids)s::bigint[])], execution_metadata),
        error = (%(errors)s::json[])[width_bucket(id, %(ids)s::bigint[])],
        last_error = (%(last_errors)s::text[])[width_bucket(id, %(ids)s::bigint[])]
    where id = any(array(
            select id from {schema}.jobs where id = any(%(ids)s::bigint[]) order by id for update skip locked
        ))
        and state = 2
        and worker_id is not distinct from %(worker)s
        and claim = (%(claims)s::int[])[width_bucket(id, %(ids)s::bigint[])]
        and checkpoint = (%(checkpoints)s::int[])[width_bucket(id, %(ids)s::bigint[])]
        and not cancel_requested
        and not (
            proceed_requested
            and (%(states)s::smallint[])[width_bucket(id, %(ids)s::bigint[])] = 4
            and not (%(asleep)s::boolean[])[width_bucket(id, %(ids)s::bigint[])]
        )
        and exists (
            select from {schema}.workers
            where workers.id = %(holder)s and lapsed_at is null and lease_until > clock_timestamp()
                and timeline = {schema}.timeline()
        )
    returning id, attempt, started_at, error, case when isfinite(scheduled_at) then extract(epoch from scheduled_at - clock_timestamp())::float8 end as due_seconds
), consumed as (
    delete from {schema}.events where ctid = any(array(
        select found.ctid
        from unnest(%(event_jobs)s::bigint[], %(event_ids)s::bigint[]) as used (job_id, id)
        cross join lateral (
            select events.ctid from {schema}.events where events.job_id = used.job_id and events.id = used.id limit 1
        ) as found
        where used.job_id = any(array(select id from released))
    ))
), told as (
    insert into {schema}.attempts (job_id, attempt, worker_id, started_at, ending, woken_by, error)
    select id, attempt, %(worker)s, started_at,
        (%(endings)s::smallint[])[width_bucket(id, %(ids)s::bigint[])],
        (%(attempts_woken_by)s::smallint[])[width_bucket(id, %(ids)s::bigint[])],
        error
    from released
    on conflict do nothing
), forgotten as (
    delete from {schema}.attempts where ctid = any(array(
        select found.ctid
        from released
        cross join lateral (
            select attempts.ctid from {schema}.attempts
            where attempts.job_id = released.id and attempts.attempt = released.attempt - 100
            limit 1
        ) as found
        where released.attempt > 100
    ))
)
select id, due_seconds from released
