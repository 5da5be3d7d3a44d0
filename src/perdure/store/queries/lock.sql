-- One live job, locked until the transaction ends: what is decided by it then holds. Answers its checkpoint's number,
-- whether it waits to be let go on (for later than then), and the job. Index: jobs_pkey. Locks: the job's row.
select checkpoint,
    state = 4 and not asleep or state = 5
        and scheduled_at > greatest(clock_timestamp(), coalesce(%(at)s::timestamptz, clock_timestamp() + %(after)s::interval)),
    {live_columns}
from {schema}.jobs
where id = %(id)s::bigint and (%(task)s::text is null or task = %(task)s::text)
for no key update
