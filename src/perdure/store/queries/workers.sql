-- All workers, for people.
select id, host, pid, started_at, lease_until, lapsed_at, concurrency, queues, version, sleeping
from {schema}.workers order by started_at, id
