-- Wake the workers (the payload is a queue; empty: whatever they serve).
select pg_notify(%(channel)s::text, %(payload)s::text)
