-- What this user may not do in the schema that workers and clients do; null: there is no schema. Index: none, few rows.
select case
    when to_regnamespace(%(schema)s::text) is null then null
    when not has_schema_privilege(%(schema)s::text, 'usage') then array['the schema']
    else array(
        select relname::text from pg_class
        where relnamespace = to_regnamespace(%(schema)s::text) and case relkind
            when 'r' then not (has_table_privilege(oid, 'select') and has_table_privilege(oid, 'insert')
                and has_table_privilege(oid, 'update') and has_table_privilege(oid, 'delete'))
            when 'S' then not has_sequence_privilege(oid, 'usage')
            else false
        end
        order by relname
    )
end
