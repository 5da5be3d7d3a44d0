-- One renewal holds all jobs of a worker. A lease that has lapsed can't be renewed, marked or not; nor one of
-- another time line.
-- Guard: the lease, by the database's clock under the row's lock, and the time line. Index: workers_pkey.
update {schema}.workers set lease_until = clock_timestamp() + lease_seconds * interval '1 s'
where id = %(id)s and lapsed_at is null and lease_until > clock_timestamp()
    and timeline = {schema}.timeline()
returning id
