-- The schema, where there is none: `create schema if not exists` takes the right to create in the database even where there
-- is one, and whose schema was made for it by somebody else needn't have that.
-- Names of schemas can be anything, such as $$: so it isn't in the block.
select set_config('perdure.schema', {schema_text}, true);
do $$
begin
    if to_regnamespace(quote_ident(current_setting('perdure.schema'))) is null then
        execute format('create schema %I', current_setting('perdure.schema'));
    end if;
end
$$;
