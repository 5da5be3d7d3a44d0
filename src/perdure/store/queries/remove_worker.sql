-- A worker that stops gives its lease back. What it could not settle is rescued at once: then its row stays for a while
-- and says that it has left, so that this isn't taken for a loss. Index: workers_pkey, jobs_held.
with kept as (
    update {schema}.workers set
        lapsed_at = coalesce(lapsed_at, clock_timestamp()), left_at = clock_timestamp(), sleeping = false
    where id = %(id)s and exists (select from {schema}.jobs where worker_id = %(id)s)
    returning id
)
delete from {schema}.workers where id = %(id)s and not exists (select from kept)
