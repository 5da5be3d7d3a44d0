-- What this user may not use in the schema that workers and clients do use; null: there is no schema.
-- Index: none, few rows.
with found as (
    select to_regnamespace(%(schema)s::text)::oid as schema
)
select case
    when schema is null then null
    when not has_schema_privilege(schema, 'usage') then array['the schema']
    else array(
        select relname::text from pg_class
        where relnamespace = schema and case relkind
            when 'r' then not (has_table_privilege(oid, 'select') and (relname = 'migrations'
                or has_table_privilege(oid, 'insert') and has_table_privilege(oid, 'update')
                and has_table_privilege(oid, 'delete')))
            when 'S' then not has_sequence_privilege(oid, 'usage')
            else false
        end
        order by relname
    )
end
from found
