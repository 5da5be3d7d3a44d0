-- The last statement of a `ctx.transaction()`, sent together with its COMMIT: the checkpoint, or an error (PD001)
-- that aborts the transaction. Guard, locks and index: the function's, in the first migration.
-- The job's row is locked from here to the COMMIT that follows at once.
select {schema}.fence(
    %(id)s::bigint, %(worker)s::uuid, %(claim)s::int, %(checkpoint)s::int, %(execution_metadata)s::jsonb
)
