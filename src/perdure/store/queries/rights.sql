-- What this user may not use in the schema that workers do use; whether it may start jobs; whether it may read all. No
-- row: there is no schema. Index: none, few rows.
with found as (
    select to_regnamespace(%(schema)s::text)::oid as schema
), relation as materialized (
    select pg_class.oid, relname::text as name, relkind as kind from pg_class, found
    where relnamespace = schema and has_schema_privilege(schema, 'usage') and relkind in ('r', 'v', 'S')
        and not exists (
            -- The sequence of an identity column goes with its table.
            select from pg_depend
            where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'i'
        )
)
select
    case when has_schema_privilege(schema, 'usage') then array(
        select name from relation
        where case kind
            when 'r' then not (has_table_privilege(oid, 'select')
                and (name = 'migrations' or has_table_privilege(oid, 'insert'))
                and (name in ('migrations', 'bands')
                    or has_table_privilege(oid, 'update') and has_table_privilege(oid, 'delete')))
            when 'S' then not has_sequence_privilege(oid, 'usage')
            else not has_table_privilege(oid, 'select')
        end
        order by name
    ) else array['the schema'] end,
    -- By `case`, for a condition may be asked before the one that stands in front of it.
    3 = (
        select count(*) from relation
        where case name
            when 'job_ids' then has_sequence_privilege(oid, 'usage')
            when 'jobs' then has_column_privilege(oid, 'metadata', 'insert')
            when 'bands' then has_table_privilege(oid, 'insert')
            else false
        end
    ),
    has_schema_privilege(schema, 'usage') and not exists (
        select from relation where case kind when 'S' then false else not has_table_privilege(oid, 'select') end
    )
from found where schema is not null
