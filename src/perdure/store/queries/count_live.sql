-- How many jobs can still run. Reads the table, or its smallest index, from one end to the other.
select count(*) from {schema}.jobs
