-- What the steps of a job have returned, and until when its sleeps last. Index: steps_pkey.
select key, result from {schema}.steps where job_id = %(id)s::bigint
