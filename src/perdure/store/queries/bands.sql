-- The bands (queue, priority) that there are; some may be there twice. Locks: none. Index: none, few rows.
select queue, priority from {schema}.bands
