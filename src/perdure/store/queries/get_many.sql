-- Some jobs as they stand, live or finished. Index: the primary key of both tables.
select {job_columns} from {schema}.all_jobs where id = any(%(ids)s::bigint[])
