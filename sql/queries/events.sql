-- name: share_events
-- Which partitions a relay has for so many seconds, and which of them it should give up.
select partition, surplus, others_differ from share_events(%s, %s::text[], %s)

-- name: leave_events
-- Partitions go to other relays; all of them if none is named.
select leave_events(%s, %s::smallint[])

-- name: log_events
-- How many events of the outbox were given their place.
select log_events(%s, %s)

-- name: begin_sink
-- A sink is served.
select begin_sink(%s)

-- name: next_events
-- What a sink lacks in a relay's partitions.
select partition, place, event_id::text, customer_id, sequence, type, subject, occurred_at, data from next_events(%s, %s, %s)

-- name: due_events
-- What a sink is to get by itself now.
select retry_id, attempts, event_id::text, customer_id, sequence, type, subject, occurred_at, data from due_events(%s, %s, %s)

-- name: events_delivered
-- A sink has everything up to places.
select events_delivered(%s, %s::smallint[], %s::bigint[])

-- name: events_retried
-- Events that were tried by themselves are delivered, or due again after a wait.
select events_retried(%s::bigint[], %s::double precision[])

-- name: retry_events
-- Events are to be tried again by themselves.
select retry_events(%s, %s::smallint[], %s::bigint[], %s::double precision[])

-- name: bury_events
-- Events that a sink refused for good lie with its dead letters.
select bury_events(%s, %s::smallint[], %s::bigint[], %s::text[])

-- name: bury_retries
-- The same of events that were tried by themselves.
select bury_retries(%s::bigint[], %s::text[])

-- name: disable_sink
-- Nothing is delivered to it until it is enabled. The first reason stays.
update event_sinks set disabled_at = clock_timestamp(), disabled_because = %s where sink = %s and disabled_at is null

-- name: enable_sink
-- The answer is whether there is such a sink.
update event_sinks set disabled_at = null, disabled_because = null where sink = %s returning sink

-- name: forget_events
-- How many logged events were forgotten that every sink has.
select forget_events(%s, %s, %s)

-- name: events_behind
-- How far each sink is behind.
select sink, events, oldest_s, retries, dead, disabled from events_behind() order by sink

-- name: outbox_lag
-- How many events wait for a relay, at most 10,000 are counted, and since when the oldest.
select count(*), coalesce(greatest(0, extract(epoch from clock_timestamp() - min(occurred_at))), 0)::float8
from (select occurred_at from outbox order by position limit 10000) o

-- name: dead_letters
-- Of one sink or of all (null), oldest first, after a place.
select sink, event_id::text, customer_id, sequence, type, subject, occurred_at, error, refused_at from dead_letters
where (%(sink)s::text is null or sink = %(sink)s) order by refused_at, event_id limit %(limit)s

-- name: redeliver_events
-- How many dead letters a sink is to get again.
select redeliver_events(%s, %s::uuid[], %s)

-- name: replay_events
-- How far the log of a partition was looked through for events that a sink is to get again, and how many those are.
select looked_to, events from replay_events(%s, %s, %s, %s::smallint, %s, %s)

-- name: forget_sink
-- Whether there was such a sink.
select forget_sink(%s)
