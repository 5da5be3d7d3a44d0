-- The last statement of a `ctx.transaction()`, sent together with its COMMIT: the checkpoint, or an error that aborts the
-- transaction (PD001; PD002 in an isolation in which the lease is seen as it was at the beginning). Guard, locks and index: the function's, in the first migration.
-- The job's row is locked from here to the COMMIT that follows at once.
select {schema}.fence(
    %(id)s::bigint, %(worker)s::uuid, %(claim)s::int, %(checkpoint)s::int, %(execution_metadata)s::jsonb
)
