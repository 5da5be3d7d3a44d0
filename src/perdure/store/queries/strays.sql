-- Jobs that this worker holds and doesn't know of: a claim whose answer was lost. Index: jobs_held.
-- Not ordered: for the order by id, a plan that was made while the table was empty walks all of jobs_pkey.
select id, claim, checkpoint, cancel_requested from {schema}.jobs
where worker_id = %(worker)s and not (id = any(%(known)s::bigint[]))
limit 1000
