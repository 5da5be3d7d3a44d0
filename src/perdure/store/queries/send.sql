-- Store an event, and let its job go on if it waits; answers the state that the job was in, null when it isn't live or is
-- of another task. What it guards, locks and notifies: the function, in the schema's migration. Index: jobs_pkey.
select {schema}.send_event(
    %(id)s::bigint, %(task)s::text, %(version)s::int, %(event)s::jsonb, %(channel)s::text, %(notify)s::boolean)
