-- Why a lease couldn't be renewed: whether its worker was registered on another time line. Index: workers_pkey.
select timeline <> {schema}.timeline() from {schema}.workers where id = %(id)s
