-- Adds the bands that jobs are in and `bands` lacks (rows inserted by hand, a partly restored table): without its band a
-- job is never claimed. A loose scan: one probe a band, however many jobs.
-- Locks: none that lasts. Index: jobs_ready.
with recursive found as (
    (
        select queue, priority from {schema}.jobs
        where state in (0, 3, 4, 5) and scheduled_at is not null and not suspect
        order by queue, priority limit 1
    )
    union all
    select next.queue, next.priority
    from found cross join lateral (
        select queue, priority from {schema}.jobs
        where state in (0, 3, 4, 5) and scheduled_at is not null and not suspect
            and (queue, priority) > (found.queue, found.priority)
        order by queue, priority limit 1
    ) as next
)
insert into {schema}.bands (queue, priority)
select queue, priority from found
where not exists (select from {schema}.bands where bands.queue = found.queue and bands.priority = found.priority)
returning queue, priority
