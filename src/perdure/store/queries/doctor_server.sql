-- What the server and this session are like, as far as jobs depend on it. Reads no table; no locks.
select
    pg_backend_pid(),
    pg_is_in_recovery(),
    current_setting('server_encoding'),
    current_setting('default_transaction_isolation'),
    array(
        select name from unnest(array['fsync', 'full_page_writes', 'synchronous_commit', 'autovacuum']) as name
        where current_setting(name) = 'off'
    ),
    current_setting('default_transaction_read_only')::boolean,
    extract(epoch from current_setting('statement_timeout')::interval)::float8,
    extract(epoch from coalesce(current_setting('transaction_timeout', true), '0')::interval)::float8
