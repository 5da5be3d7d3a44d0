-- Take one suspect: a job whose last lapses make it likely to take its worker down. One at a time a worker.
-- Guard: as claim.sql.
-- Locks: the row taken, skipping locked ones. Index: jobs_suspect, then jobs_pkey.
update {schema}.jobs set
    state = 2, claim = least(claim, 2147483646) + 1, attempt = least(attempt, 2147483646) + 1, worker_id = %(worker)s, started_at = clock_timestamp(), claim_checkpoint = checkpoint
where id = any(array(
    select id from {schema}.jobs
    where state in (0, 3, 4, 5) and scheduled_at is not null and suspect and scheduled_at <= statement_timestamp()
        and (%(queues)s::text[] is null or queue = any(%(queues)s::text[]))
    order by scheduled_at, id
    limit 1
    for no key update skip locked
))
    and exists (
        select from {schema}.workers
        where workers.id = %(worker)s and lapsed_at is null and lease_until > clock_timestamp()
            and timeline = {schema}.timeline()
    )
returning {claim_columns}
