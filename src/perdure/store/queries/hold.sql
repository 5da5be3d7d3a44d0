-- One live job, kept from being suspended and from ending until the transaction ends; checkpoints and claims aren't held
-- up. Index: jobs_pkey. Locks: the job's row.
select id from {schema}.jobs where id = %(id)s::bigint for key share
