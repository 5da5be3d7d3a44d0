-- A worker's row is its lease. The id is random and never used again.
insert into {schema}.workers (id, lease_until, lease_seconds, host, pid, concurrency, queues, version)
values (%(id)s, clock_timestamp() + %(lease_seconds)s::float8 * interval '1 s', %(lease_seconds)s::float8,
    %(host)s, %(pid)s, %(concurrency)s, %(queues)s::text[], %(version)s)
