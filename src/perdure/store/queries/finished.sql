-- Which of these jobs have ended (or are gone): what a waiter polls. Index: jobs_pkey.
select awaited.id from unnest(%(ids)s::bigint[]) as awaited (id)
where not exists (select from {schema}.jobs where jobs.id = awaited.id)
