-- Make settings: of the session where it is ours, else only for this statement, so that they reach nobody else.
-- A pooler gives its clients ids of server processes that are of its own making.
with session as materialized (
    select %(may_keep)s::boolean and pg_backend_pid() = %(pid)s::int as is_ours
)
select is_ours, set_config(setting.name, setting.value, not is_ours)
from session, unnest(%(settings)s::text[], %(values)s::text[]) as setting (name, value)
