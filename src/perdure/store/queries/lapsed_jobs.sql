-- Some jobs of a worker that has lost its lease, locked for the rescue in the same transaction.
-- Guard: the worker's row is asked again. Locks: the rows in any order (see strays.sql), skipping locked ones, so that
-- it never waits. Index: jobs_held.
select id, claim, checkpoint, checkpoint > claim_checkpoint, retry_number, scheduler_retries, lapses,
    cancel_requested, proceed_requested, woken_by, task,
    exists (select from {schema}.workers where workers.id = %(worker)s and left_at is not null)
from {schema}.jobs
where worker_id = %(worker)s
    and not (id = any(%(skipped)s::bigint[]))
    and not exists (select from {schema}.workers where workers.id = %(worker)s and lapsed_at is null)
limit %(limit)s::int
for update skip locked
