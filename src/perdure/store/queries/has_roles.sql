-- Whether there are all of these roles. Index: pg_authid_rolname_index.
select count(*) = cardinality(%(roles)s::text[]) from pg_roles where rolname = any(%(roles)s::text[])
