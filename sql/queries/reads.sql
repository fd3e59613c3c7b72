-- name: balance
-- What a customer may spend and what is reserved, in one currency.
select ordinal, available, reserved from read_balances(%s, %s)

-- name: activity
-- The customer's own history, and what is known of the payee (functions/50_reads.sql).
select ordinal, attempts, attempted, allowed, allowed_count, allowed_mean, payee_known, payee_list, customer_list,
    failed_attempts, usual_count, usual_mean, usual_deviation, since_allowed_s, customer_age_s, payee_known_s, payee_age_s, payee_customers
from read_signals(%s, %s, %s)

-- name: listed
-- Whether a customer or payee is on the allow or the block list.
select read_listing(%s::listed_kind, %s)

-- name: ready
-- Whether statements are carried out and writes are possible.
select pg_is_in_recovery()

-- name: accounts_of
-- All accounts of one customer.
select currency, available, reserved from accounts where customer_id = %s order by currency

-- name: payment_by_id
-- One decision as it stands now, by the payment's id alone.
select p.customer_id, p.payment_id::text, p.payee_id, p.amount_minor, p.currency, p.decision::text, p.reservation::text, p.reserved_until,
    p.reservation_ended_at, c.case_id::text, p.policy_version, p.decided_at, p.answer
from payments p
left join cases c on c.customer_id = p.customer_id and c.payment_id = p.payment_id
where p.payment_id = %s::uuid

-- name: payments_page
-- A page of decisions, newest first, after a cursor; filters that are null do not filter.
select p.customer_id, p.payment_id::text, p.payee_id, p.amount_minor, p.currency, p.decision::text, p.reservation::text, p.reserved_until,
    p.reservation_ended_at, c.case_id::text, p.policy_version, p.decided_at, p.answer
from payments p
left join cases c on c.customer_id = p.customer_id and c.payment_id = p.payment_id
where (%(customer_id)s::text is null or p.customer_id = %(customer_id)s)
    and (%(decision)s::text is null or p.decision = %(decision)s::decision)
    and (%(before)s::uuid is null or p.payment_id < %(before)s::uuid)
order by p.payment_id desc
limit %(limit)s

-- name: end_reservations
-- Captures, releases or expires reservations (functions/40_reservations.sql).
select ordinal, outcome, state, ended_at
from end_reservations(%s::text[], %s::uuid[], %s::reservation_state, %s::uuid[], %s, %s::text[])

-- name: due_reservations
-- Reservations that nobody ended in time.
select customer_id, payment_id::text, payee_id, amount_minor, currency
from payments
where reservation = 'held' and reserved_until <= (select clock_timestamp())
order by reserved_until
limit %s

-- name: pending_cases
-- Reviews whose case could not be opened yet, after a payment.
select p.customer_id, p.payment_id::text, p.payee_id, p.amount_minor, p.currency, p.answer
from payments p where case_pending and (%(after)s::uuid is null or payment_id > %(after)s::uuid) order by payment_id limit %(limit)s
