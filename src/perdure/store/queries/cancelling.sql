-- The jobs of this worker whose cancellation was requested, with the claim that it has of each. Index: jobs_cancelling.
select id, claim from {schema}.jobs where cancel_requested and worker_id = %(worker)s
