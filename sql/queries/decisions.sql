-- name: claim
-- Claims keys, and reads what the built-in tools would ask next (functions/55_claim_with_signals.sql).
select ordinal, outcome, payment_id::text, policy_version, answer, remaining, wait_s, reset_s,
    available, reserved, attempts, attempted, allowed, allowed_count, allowed_mean, payee_known, payee_list, customer_list,
    failed_attempts, usual_count, usual_mean, usual_deviation, since_allowed_s, customer_age_s, payee_known_s, payee_age_s, payee_customers
from claim_with_signals(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: settle
-- Settles decided payments (functions/30_settle.sql).
select ordinal, outcome, decision, answer
from settle_payments(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, string_to_array(%s, chr(31)), string_to_array(%s, chr(31)), %s,
    string_to_array(%s, chr(31)), %s, %s, %s)

-- name: abandon
-- Ends our own leases, so that the next try need not wait for them.
select abandon_claims(%s::text[], %s::text[], %s::uuid[])

-- name: key_known
-- Which of these keys are stored, whatever their state, in the same order: a known key is never refused by the customer's limit.
select (select x.payment_id from idempotency_keys x where x.customer_id = r.c and x.key = r.k limit 1) is not null
from unnest(%s::text[], %s::text[]) with ordinality r (c, k, i) order by r.i

-- name: take_token
-- Takes one token for a subject outside a claim.
select allowed, remaining, wait_s, reset_s from take_token(%s, %s, %s, %s)

-- name: abandoned_claims
-- Claims whose process died: their leases have run out. The time stands in a subquery, here and in the others that look for what is over: as a
-- volatile function it would be asked anew for each row, and no index could be entered by it.
select customer_id, key, fingerprint, payment_id::text, payee_id, amount_minor, currency, request_id, policy_version
from idempotency_keys
where state = 'processing' and lease_until < (select clock_timestamp())
order by lease_until
limit %s

-- name: forget_keys
-- Ends the retention of decided keys, some at a time, and notes how far it has gone.
with old as (
    select customer_id, key from idempotency_keys
    where claimed_at < (select clock_timestamp() - %(retention)s::interval) and state = 'decided'
    limit %(limit)s
    for update skip locked
), gone as (
    delete from idempotency_keys k using old where k.customer_id = old.customer_id and k.key = old.key returning 1
), noted as (
    update retention set keys_forgotten_before = greatest(keys_forgotten_before, clock_timestamp() - %(retention)s::interval)
    where exists (select from gone)
)
select 1 from gone
