-- Rows of workers that lapsed more than a day ago are of no more interest. Index: none, few rows.
delete from {schema}.workers where lapsed_at < clock_timestamp() - interval '1 day'
