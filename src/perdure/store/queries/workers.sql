-- All workers, for people; but for those that have stopped by themselves. Index: none, few rows.
select id, host, pid, started_at, lease_until, lapsed_at, concurrency, queues, version, sleeping
from {schema}.workers where left_at is null order by started_at, id
