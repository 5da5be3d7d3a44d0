-- The attempts of one job, by number: those kept, and its last one, which its own row tells of while it runs and once it
-- has ended the job. Index: attempts_pkey, and the primary key of both tables of jobs.
select attempt, worker_id, started_at, ended_at, ending, woken_by, error from {schema}.attempts
where job_id = %(id)s::bigint
union all
select attempt, worker_id, started_at, null, 0::smallint, woken_by, null from {schema}.jobs
where id = %(id)s::bigint and state = 2
union all
select attempt, worker_id, started_at, finished_at, (state + 1)::smallint, woken_by, error from {schema}.finished_jobs
where id = %(id)s::bigint and attempt > 0
    and not exists (select from {schema}.attempts where job_id = %(id)s::bigint and attempts.attempt = finished_jobs.attempt)
order by 1
