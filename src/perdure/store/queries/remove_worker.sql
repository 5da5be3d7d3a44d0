-- A worker that stops gives its lease back. What it could not settle is rescued at once. Index: workers_pkey.
delete from {schema}.workers where id = %(id)s
