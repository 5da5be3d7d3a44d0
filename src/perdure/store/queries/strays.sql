-- Jobs that this worker holds and doesn't know of: a claim whose answer was lost. Index: jobs_held.
select id, claim, checkpoint, cancel_requested from {schema}.jobs
where worker_id = %(worker)s and not (id = any(%(known)s::bigint[]))
order by id
limit 1000
