-- What time the database has. Apart, so that nothing else takes time in its round trip.
select clock_timestamp()
