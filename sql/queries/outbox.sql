-- name: take_relay_turn
-- One relay at a time: the lock ends with its session.
select pg_try_advisory_lock(hashtext('paynow.relay'))

-- name: pending_events
-- Events that are not delivered yet, in their order.
select position, event_id::text, customer_id, sequence, type, subject, occurred_at, data::text from outbox order by position limit %s

-- name: remove_events
-- Delivered events leave the table.
delete from outbox where position = any(%s::bigint[])

-- name: add_dead_letters
-- Keeps what a sink refused for good; repeating it changes nothing.
insert into dead_letters (sink, event_id, customer_id, sequence, type, subject, occurred_at, data, error)
select %s, event_id, customer_id, sequence, type, subject, occurred_at, data, %s from outbox where position = any(%s::bigint[])
on conflict do nothing

-- name: outbox_lag
-- How many events wait, and since when the oldest.
select count(*), coalesce(extract(epoch from clock_timestamp() - min(occurred_at)), 0)::float8 from outbox
