-- What a worker would read of live jobs: a page by id, behind the id `after`, of at most so many jobs and so many bytes as
-- they are stored; but at least one. Reads. Index: jobs_pkey.
select id, task, state, version, metadata, execution_metadata
from (
    select page.*,
        sum(pg_column_size(metadata) + pg_column_size(execution_metadata)) over (order by id) as bytes,
        row_number() over (order by id) as place
    from (
        select id, task, state, version, metadata, execution_metadata from {schema}.jobs
        where id > %(after)s::bigint
        order by id
        limit %(limit)s::int
    ) as page
) as measured
where place = 1 or bytes <= %(bytes)s::bigint
order by id
