-- What has been applied. Index: none, few rows.
select number, major, checksum from {schema}.migrations
