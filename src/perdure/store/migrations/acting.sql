-- Acts, for the rest of the transaction, as the owner of what is there: of the ledger; where there is none, of the schema. So
-- all has one owner, whoever migrates. A user that may not act as that one remains itself.
-- `public` is pg_database_owner's, whose tables would change hands together with the database, and nothing else in it would:
-- there it is the database's owner.
-- Returns as whom it acts; who the owner is; whether there is a ledger. No row: there is no schema.
select
    set_config(
        'role', case when pg_has_role(current_user, owner, acting) then pg_get_userbyid(owner) else current_user end, true
    ),
    pg_get_userbyid(owner)::text,
    has_ledger
from (
    select
        coalesce(relowner, case nspowner when 'pg_database_owner'::regrole then datdba else nspowner end) as owner,
        relowner is not null as has_ledger,
        -- Before PostgreSQL 16 whoever is a member may.
        case when current_setting('server_version_num')::int < 160000 then 'member' else 'set' end as acting
    from pg_namespace
        join pg_database on datname = current_database()
        left join pg_class on relnamespace = pg_namespace.oid and relname = 'migrations' and relkind = 'r'
    where nspname = {schema_text}
) as found;
