-- name: cases_page
-- A page of cases, newest first, after a cursor; filters that are null do not filter. Ages count from when the case was opened.
select c.case_id::text, c.payment_id::text, c.customer_id, c.status::text, c.amount_minor, c.currency, c.reasons, c.opened_at,
    c.priority, c.due_at, c.holder, c.claimed_at, c.label::text, c.resolved_by, c.resolved_at, p.reserved_until
from cases c
left join payments p on p.customer_id = c.customer_id and p.payment_id = c.payment_id
where (%(status)s::text is null or c.status = %(status)s::case_status)
    and (%(holder)s::text is null or c.holder = %(holder)s)
    and (%(label)s::text is null or c.label = %(label)s::case_label)
    and (%(currency)s::text is null or c.currency = %(currency)s)
    and (%(amount_min)s::bigint is null or c.amount_minor >= %(amount_min)s)
    and (%(amount_max)s::bigint is null or c.amount_minor <= %(amount_max)s)
    and (%(age_min)s::interval is null or c.opened_at <= now() - %(age_min)s::interval)
    and (%(age_max)s::interval is null or c.opened_at >= now() - %(age_max)s::interval)
    and (not %(overdue)s or (c.status in ('open', 'claimed') and c.due_at < now()))
    and (%(before)s::uuid is null or c.case_id < %(before)s::uuid)
order by c.case_id desc
limit %(limit)s

-- name: cases_queue
-- A page of cases that are not resolved, the most urgent first, then as they are due, after a cursor; filters as above.
select c.case_id::text, c.payment_id::text, c.customer_id, c.status::text, c.amount_minor, c.currency, c.reasons, c.opened_at,
    c.priority, c.due_at, c.holder, c.claimed_at, c.label::text, c.resolved_by, c.resolved_at, p.reserved_until
from cases c
left join payments p on p.customer_id = c.customer_id and p.payment_id = c.payment_id
where c.status in ('open', 'claimed')
    and (%(status)s::text is null or c.status = %(status)s::case_status)
    and (%(holder)s::text is null or c.holder = %(holder)s)
    and (%(label)s::text is null or c.label = %(label)s::case_label)
    and (%(currency)s::text is null or c.currency = %(currency)s)
    and (%(amount_min)s::bigint is null or c.amount_minor >= %(amount_min)s)
    and (%(amount_max)s::bigint is null or c.amount_minor <= %(amount_max)s)
    and (%(age_min)s::interval is null or c.opened_at <= now() - %(age_min)s::interval)
    and (%(age_max)s::interval is null or c.opened_at >= now() - %(age_max)s::interval)
    and (not %(overdue)s or c.due_at < now())
    and (%(after_case)s::uuid is null
        or (-c.priority, c.due_at, c.case_id) > (-%(after_priority)s::int, %(after_due)s::timestamptz, %(after_case)s::uuid))
order by -c.priority, c.due_at, c.case_id
limit %(limit)s

-- name: case_by_id
-- One case, by its id alone.
select c.case_id::text, c.payment_id::text, c.customer_id, c.status::text, c.amount_minor, c.currency, c.reasons, c.opened_at,
    c.priority, c.due_at, c.holder, c.claimed_at, c.label::text, c.resolved_by, c.resolved_at, p.reserved_until
from cases c
left join payments p on p.customer_id = c.customer_id and p.payment_id = c.payment_id
where c.case_id = %s::uuid

-- name: case_history
-- What was done to a case, in its order.
select act::text, actor, note, label::text, acted_at from case_history where customer_id = %s and case_id = %s::uuid order by seq

-- name: case_payment
-- The payment that a case is about.
select p.payment_id::text, p.customer_id, p.payee_id, p.amount_minor, p.currency
from cases c join payments p on p.customer_id = c.customer_id and p.payment_id = c.payment_id
where c.case_id = %s::uuid

-- name: work_case
-- Claims, unclaims, notes or labels a case (functions/45_cases.sql).
select w.outcome, (w.seen).case_id::text, (w.seen).payment_id::text, (w.seen).customer_id, (w.seen).status::text, (w.seen).amount_minor,
    (w.seen).currency, (w.seen).reasons, (w.seen).opened_at, (w.seen).priority, (w.seen).due_at, (w.seen).holder, (w.seen).claimed_at,
    (w.seen).label::text, (w.seen).resolved_by, (w.seen).resolved_at, w.reserved_until
from work_case(%s, %s::uuid, %s::case_act, %s, %s, %s, %s::case_label) w

-- name: resolve_case
-- Approves or declines a case (functions/45_cases.sql).
select w.outcome, (w.seen).case_id::text, (w.seen).payment_id::text, (w.seen).customer_id, (w.seen).status::text, (w.seen).amount_minor,
    (w.seen).currency, (w.seen).reasons, (w.seen).opened_at, (w.seen).priority, (w.seen).due_at, (w.seen).holder, (w.seen).claimed_at,
    (w.seen).label::text, (w.seen).resolved_by, (w.seen).resolved_at, w.reserved_until
from resolve_case(%s, %s::uuid, %s::case_status, %s, %s, %s::uuid, %s) w

-- name: cases_waiting
-- How many cases are not resolved, how many of them are overdue, and since when the oldest waits.
select count(*), count(*) filter (where due_at < now()), coalesce(extract(epoch from clock_timestamp() - min(opened_at)), 0)::float8
from cases where status in ('open', 'claimed')

-- name: open_case
-- Opens the case of a review that waits for one.
select open_case(%s, %s::uuid, %s::uuid, %s, %s, %s)
