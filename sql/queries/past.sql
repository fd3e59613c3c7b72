-- name: past_export_snapshot
-- Lets other sessions read what this one reads, for as long as its transaction lasts.
select pg_export_snapshot()

-- name: past_count
-- How many decisions lie between two payment ids, the second not included; reads the index only.
select count(*) from payments where payment_id >= %(first)s::uuid and payment_id < %(beyond)s::uuid

-- name: past_cuts
-- The first payment id of every run of so many decisions, in order; reads the index only.
select payment_id::text
from (
    select payment_id, row_number() over (order by payment_id) as place
    from payments where payment_id >= %(first)s::uuid and payment_id < %(beyond)s::uuid
) placed
where (place - 1) %% %(decisions)s = 0
order by payment_id

-- name: past_sample
-- So many payment ids, in order, chosen by a hash: as if by chance, and the same ones as long as nothing is decided meanwhile.
select payment_id::text
from (
    select payment_id from payments where payment_id >= %(first)s::uuid and payment_id < %(beyond)s::uuid
    order by uuid_hash_extended(payment_id, 0), payment_id
    limit %(sample)s
) chosen
order by payment_id

-- name: past_decisions
-- The decisions between two payment ids, the second not included.
select payment_id::text, customer_id, payee_id, amount_minor, currency, decision::text, policy_version, answer
from payments where payment_id >= %(first)s::uuid and payment_id < %(beyond)s::uuid
order by payment_id

-- name: past_chosen_decisions
-- The decisions of these payment ids; one that is not there is left out.
select payment_id::text, customer_id, payee_id, amount_minor, currency, decision::text, policy_version, answer
from payments where payment_id = any(%(ids)s::uuid[])
order by payment_id

-- name: past_policy
-- The text of one policy ever active.
select body from policies where version = %s

-- name: past_labels
-- What analysts have said of payments.
select payment_id::text, label::text from cases where label is not null
