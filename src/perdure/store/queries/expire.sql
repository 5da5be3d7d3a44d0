-- Jobs past their deadline that no worker holds: they fail, and whoever waits for one is told. (A worker that holds one
-- ends it itself.) A requested cancel would win, but no job here has one: only a running job's is stored, and it decides
-- how that ends.
-- Guard: the deadline, by the database's clock, and no worker, under the rows' locks. Locks: the jobs' rows in the order
-- of their deadlines, skipping locked ones, so that it never waits. Index: jobs_deadline, then jobs_pkey.
with ended as (
    delete from {schema}.jobs
    where id = any(array(
        select id from {schema}.jobs
        where deadline_at <= statement_timestamp() and worker_id is null
        order by deadline_at, id
        offset %(stepped_over)s::int
        limit %(limit)s::int
        for update skip locked
    ))
    returning *
), kept as (
    insert into {schema}.finished_jobs (id, scheduled_at, created_at, started_at, finished_at, worker_id, claim, attempt,
        retry_number, checkpoint, state, priority, queue, task, metadata, execution_metadata, error, last_error, progress,
        woken_by, deadline_at, version)
    select id, scheduled_at, created_at, started_at, clock_timestamp(), worker_id, claim, attempt,
        retry_number, checkpoint, 7, priority, queue, task, metadata, execution_metadata, %(error)s::json,
        %(last_error)s::text, progress, woken_by, deadline_at, version
    from ended
    returning id
)
select (select count(*) from kept),
    (select count(pg_notify(%(done_channel)s::text, id::text)) from ended where awaited)
