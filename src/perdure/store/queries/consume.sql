-- Events that a `ctx.transaction()` has used, before its fence, which aborts this as well when the attempt may not write
-- any more. Guard: none but that. Locks: the events. Index: events_pkey.
delete from {schema}.events where job_id = %(id)s::bigint and id = any(%(ids)s::bigint[])
