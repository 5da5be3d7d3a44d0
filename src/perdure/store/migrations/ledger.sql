-- What has been applied.
create table if not exists {schema}.migrations (
    number int primary key,
    name text not null,
    major int not null,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp()
);
