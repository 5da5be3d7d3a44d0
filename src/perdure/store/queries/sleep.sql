-- Whether starters have to notify this worker. Claim once more after setting it. Index: workers_pkey.
update {schema}.workers set sleeping = %(sleeping)s::boolean where id = %(id)s
