-- How full the queue of notifications is, from 0 to 1. Who asks makes room in it: what everybody has read, or nobody listens
-- to any more, is let go. Of a full queue PostgreSQL doesn't do that by itself. Reads no table; locks no row.
select pg_notification_queue_usage()
