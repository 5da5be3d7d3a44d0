-- The oldest event of a job that its attempt hasn't been given yet. What it has been given stays until a checkpoint or an
-- outcome consumes it. Index: events_pkey.
select id, version, event from {schema}.events
where job_id = %(id)s::bigint and not (id = any(%(handed)s::bigint[]))
order by id
limit 1
