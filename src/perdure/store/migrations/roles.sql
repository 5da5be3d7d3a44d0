-- The roles of a schema: who may migrate it, work, start, look. Safe to run again, and to be run again after migrations.
-- Names of schemas and roles can be anything, such as $$: so none is in a block.
select set_config('perdure.schema', {schema_text}, true), set_config('perdure.owner', {owner_text}, true),
    set_config('perdure.worker', {worker_text}, true), set_config('perdure.starter', {starter_text}, true),
    set_config('perdure.viewer', {viewer_text}, true);

do $$
declare
    owner text := current_setting('perdure.owner');
    name text;
begin
    foreach name in array array[
        owner, current_setting('perdure.worker'), current_setting('perdure.starter'), current_setting('perdure.viewer')
    ] loop
        if not exists (select from pg_catalog.pg_roles where rolname = name) then
            begin
                execute format('create role %I nologin', name);
            exception when duplicate_object or unique_violation then
                null;  -- just now, for a schema of this name in another database of the server
            end;
        end if;
    end loop;
    -- From PostgreSQL 16 on, who has made a role can't act as it by that alone.
    if not pg_has_role(current_user, owner, 'usage') then
        execute format('grant %I to current_user', owner);
    end if;
end
$$;

-- The schema and all that is in it is the owner's; what belongs to a column (an identity's sequence) goes with its table.
do $$
declare
    schema oid := (select oid from pg_catalog.pg_namespace where nspname = current_setting('perdure.schema'));
    owner text := current_setting('perdure.owner');
    statement text;
begin
    for statement in
        select format('alter schema %I owner to %I', nspname, owner) from pg_catalog.pg_namespace
        where oid = schema and pg_get_userbyid(nspowner) <> owner
    loop
        execute statement;
    end loop;
    for statement in
        select format('alter table %s owner to %I', pg_class.oid::regclass, owner) from pg_catalog.pg_class
        where relnamespace = schema and relkind in ('r', 'v', 'S') and pg_get_userbyid(relowner) <> owner
            and not exists (
                select from pg_catalog.pg_depend
                where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype in ('a', 'i')
            )
        union all
        select format('alter function %s owner to %I', pg_proc.oid::regprocedure, owner) from pg_catalog.pg_proc
        where pronamespace = schema and pg_get_userbyid(proowner) <> owner
        union all
        select format('alter domain %s owner to %I', pg_type.oid::regtype, owner) from pg_catalog.pg_type
        where typnamespace = schema and typtype = 'd' and pg_get_userbyid(typowner) <> owner
    loop
        execute statement;
    end loop;
end
$$;

revoke all on schema {schema} from public, {worker}, {starter}, {viewer};
revoke all on all tables in schema {schema} from public, {worker}, {starter}, {viewer};
revoke all on all sequences in schema {schema} from public, {worker}, {starter}, {viewer};
revoke all on all functions in schema {schema} from public, {worker}, {starter}, {viewer};
-- Who has a column of such a type in a table of its own could hold up a migration that changes it.
do $$
declare
    statement text;
begin
    for statement in
        select format('revoke all on domain %s from public', pg_type.oid::regtype) from pg_catalog.pg_type
        where typnamespace = (select oid from pg_catalog.pg_namespace where nspname = current_setting('perdure.schema'))
            and typtype = 'd'
    loop
        execute statement;
    end loop;
end
$$;
grant usage on schema {schema} to {worker}, {starter}, {viewer};

-- A viewer reads, a worker does all but migrate.
grant select on all tables in schema {schema} to {worker}, {viewer};
grant insert, update, delete on {schema}.jobs, {schema}.finished_jobs, {schema}.events, {schema}.steps, {schema}.attempts,
    {schema}.workers to {worker};
grant insert on {schema}.bands to {worker};
grant usage on sequence {schema}.job_ids to {worker};
grant execute on all functions in schema {schema} to {worker};

-- A starter adds jobs as they are at their start, and reads of them what their start tells; and who is to be notified.
grant insert (id, task, queue, priority, created_at, scheduled_at, deadline_at, version, metadata, execution_metadata),
    select (id, created_at, scheduled_at, deadline_at) on {schema}.jobs to {starter};
grant usage on sequence {schema}.job_ids to {starter};
grant select, insert on {schema}.bands to {starter};
grant execute on function {schema}.add_band(text, smallint) to {starter};
grant select (sleeping, lapsed_at, queues) on {schema}.workers to {starter};
grant select on {schema}.migrations to {starter};
-- An event changes the row of its job, which a starter can't: so this is done with the rights of the owner.
alter function {schema}.send_event(bigint, text, int, jsonb, text, boolean) security definer;
grant execute on function {schema}.send_event(bigint, text, int, jsonb, text, boolean) to {starter};

-- What later migrations make, which are the owner's too.
alter default privileges for role {owner} in schema {schema} grant select on tables to {viewer};
alter default privileges for role {owner} in schema {schema} grant select, insert, update, delete on tables to {worker};
alter default privileges for role {owner} in schema {schema} grant usage on sequences to {worker};
alter default privileges for role {owner} in schema {schema} grant execute on functions to {worker};
