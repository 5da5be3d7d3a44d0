-- Ask for the cancellation of a running job: whatever it ends with now but a value makes it cancelled.
-- Guard: the state, under the row's lock. Index: jobs_pkey. Locks: the job's row.
update {schema}.jobs set cancel_requested = true
where id = %(id)s::bigint and state = 2
returning id
