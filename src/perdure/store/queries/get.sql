-- One job as it stands, live or finished. Index: the primary key of both tables.
select {job_columns} from {schema}.all_jobs where id = %(id)s::bigint
