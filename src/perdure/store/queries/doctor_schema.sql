-- Workers with a lease, jobs that no worker can read, and how much history there is (estimated).
-- Index: jobs_unreadable; nothing is counted in the history.
select
    (select count(*) from {schema}.workers where lapsed_at is null and lease_until > clock_timestamp()),
    array(select distinct task from {schema}.jobs where unreadable > 0 order by task limit 10),
    (select greatest(reltuples, 0)::bigint from pg_class where oid = %(history)s::regclass),
    pg_total_relation_size(%(history)s::regclass)
