-- Who owns the schema, if this user may act as that; else this user. Index: none, few rows.
select case when pg_has_role(current_user, nspowner, %(acting)s::text) then pg_get_userbyid(nspowner) else current_user end
from pg_namespace where nspname = %(schema)s::text
