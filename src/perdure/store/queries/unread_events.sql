-- How many events a job hasn't consumed. Index: events_pkey.
select count(*) from {schema}.events where job_id = %(id)s::bigint
