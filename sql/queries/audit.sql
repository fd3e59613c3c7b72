-- name: audit_accounts_equal_ledger
-- Each account's money against the sums of its ledger entries.
select concat_ws(' ', customer_id, currency),
    case when a.available is null then 'entries without an account'
        else concat('holds ', a.available, ' available and ', a.reserved, ' reserved; its entries come to ',
            coalesce(l.available, 0), ' and ', coalesce(l.reserved, 0)) end
from accounts a
full join (
    select customer_id, currency, sum(available_change) as available, sum(reserved_change) as reserved from ledger_entries group by 1, 2
) l using (customer_id, currency)
where (a.available, a.reserved) is distinct from (coalesce(l.available, 0), coalesce(l.reserved, 0))

-- name: audit_balances_not_negative
-- No account below zero, in either part.
select concat_ws(' ', customer_id, currency), concat('holds ', available, ' available and ', reserved, ' reserved')
from accounts where available < 0 or reserved < 0

-- name: audit_ledger_gapless
-- Each account's entries are numbered from one to its counter, without a gap.
select concat_ws(' ', customer_id, currency),
    concat('counts ', a.entry_seq, ' entries; there are ', coalesce(l.entries, 0), ', the last is number ', coalesce(l.last, 0))
from accounts a
left join (select customer_id, currency, count(*) as entries, max(entry_seq) as last from ledger_entries group by 1, 2) l using (customer_id, currency)
where (a.entry_seq, a.entry_seq) is distinct from (coalesce(l.entries, 0), coalesce(l.last, 0))

-- name: audit_reserved_is_held
-- What an account has reserved is the sum of its payments that are held.
select concat_ws(' ', customer_id, currency), concat('has ', coalesce(a.reserved, 0), ' reserved; its held payments come to ', coalesce(h.held, 0))
from accounts a
full join (select customer_id, currency, sum(amount_minor) as held from payments where reservation = 'held' group by 1, 2) h using (customer_id, currency)
where coalesce(a.reserved, 0) <> coalesce(h.held, 0)

-- name: audit_allowed_reserve_once
-- Each payment that was allowed, or approved in its case, has exactly one reserve entry, of its amount.
select concat_ws(' ', p.customer_id, p.payment_id),
    case when e.entries is null then 'has a reservation, but nothing was reserved'
        when e.entries > 1 then concat('reserved ', e.entries, ' times')
        else concat('reserved ', e.amount, ' ', e.currency, ', its amount is ', p.amount_minor, ' ', p.currency) end
from payments p
left join (
    select customer_id, payment_id, count(*) as entries, min(reserved_change) as amount, min(currency) as currency
    from ledger_entries where kind = 'reserve' group by 1, 2
) e using (customer_id, payment_id)
where p.reservation is not null and (e.entries, e.amount, e.currency) is distinct from (1, p.amount_minor, p.currency)

-- name: audit_only_allowed_reserve
-- No reserve entry belongs to a payment that was neither allowed nor approved.
select concat_ws(' ', e.customer_id, e.payment_id), concat('reserved ', e.reserved_change, ' ', e.currency, ', but ',
    case when p.decision is null then 'there is no such payment' else concat('the decision is ', p.decision) end)
from ledger_entries e
left join payments p using (customer_id, payment_id)
where e.kind = 'reserve' and p.reservation is null

-- name: audit_reservations_end_once
-- Each reservation that has ended has exactly one entry that says so, of its amount; each other payment has none.
select concat_ws(' ', customer_id, payment_id), concat('its reservation is ', coalesce(p.reservation::text, 'none'), '; ',
    case when e.entries is null then 'no entry ends it' else concat(e.entries, ' end it: ', e.kind, ' of ', e.amount, ' ', e.currency) end)
from payments p
full join (
    select customer_id, payment_id, count(*) as entries, min(kind::text) as kind, min(-reserved_change) as amount, min(currency) as currency
    from ledger_entries where kind in ('capture', 'release', 'expire') group by 1, 2
) e using (customer_id, payment_id)
where case when p.reservation <> 'held'
    then (e.entries, e.kind, e.amount, e.currency) is distinct from (1,
        case p.reservation when 'captured' then 'capture' when 'released' then 'release' else 'expire' end, p.amount_minor, p.currency)
    else e.entries is not null end

-- name: audit_decided_keys_have_their_payment
-- Each decided idempotency key leads to the stored payment that its fingerprint stands for.
select concat_ws(' ', k.customer_id, k.payment_id),
    case when p.payment_id is null then 'its key is decided, but there is no such payment' else 'its key stands for another payment' end
from idempotency_keys k
left join payments p using (customer_id, payment_id)
where k.state = 'decided' and (p.payment_id is null
    or k.fingerprint <> sha256(convert_to(concat_ws(chr(10), p.customer_id, p.payee_id, p.amount_minor, p.currency), 'UTF8')))

-- name: audit_payments_have_their_key
-- Each payment has exactly one key, and it is decided; it may have none if it began (its id tells when) before what retention has forgotten.
select concat_ws(' ', p.customer_id, p.payment_id), concat('has ', coalesce(k.keys, 0), ' keys, of which ', coalesce(k.decided, 0), ' are decided')
from payments p
left join (
    select customer_id, payment_id, count(*) as keys, count(*) filter (where state = 'decided') as decided from idempotency_keys group by 1, 2
) k using (customer_id, payment_id)
where case when k.keys is not null then (k.keys, k.decided) <> (1, 1)
    else to_timestamp(('x' || translate(left(p.payment_id::text, 13), '-', ''))::bit(48)::bigint / 1000.0)
        > (select keys_forgotten_before from retention) + interval '5 minutes' end

-- name: audit_payments_lead_somewhere
-- Each payment's customer and policy are there.
select concat_ws(' ', p.customer_id, p.payment_id), concat_ws(' and ', case when c.customer_id is null then 'there is no such customer' end,
    case when v.version is null then concat('there is no policy ', p.policy_version) end)
from payments p
left join customers c using (customer_id)
left join policies v on v.version = p.policy_version
where c.customer_id is null or v.version is null

-- name: audit_claims_are_finished
-- No claim stands a minute after its lease ran out.
select concat_ws(' ', customer_id, payment_id),
    concat('is in flight since ', claimed_at, ', its lease ended at ', lease_until, ': a running service finishes it, or a retry of its key')
from idempotency_keys where state = 'processing' and lease_until < now() - interval '1 minute'

-- name: audit_event_sequences_count
-- Each customer's event number is the number of decisions, of ended reservations and of resolved cases; that of `paynow.policy`, under which the
-- events of policies are numbered, of the times that a band was left and reached again.
select customer_id, concat('the event number is ', c.event_seq, '; decisions and ended reservations are ', coalesce(p.events, 0),
    ', resolved cases ', coalesce(r.events, 0), ', bands left and reached again ', coalesce(b.events, 0))
from customers c
left join (select customer_id, count(*) + count(*) filter (where reservation <> 'held') as events from payments group by 1) p using (customer_id)
left join (select customer_id, count(*) as events from cases where status in ('approved', 'declined') group by 1) r using (customer_id)
left join (select 'paynow.policy' as customer_id, count(*) as events from policy_band_crossings) b using (customer_id)
where c.event_seq <> coalesce(p.events, 0) + coalesce(r.events, 0) + coalesce(b.events, 0)

-- name: audit_outbox_in_sequence
-- The events of a customer that are kept, in the outbox and before that in the log, are the last ones, in order, each once; none is beyond the
-- customer's number. The places of a partition in the log have no gaps, and no sink is beyond the last.
select concat_ws(' ', o.customer_id, o.event_id), concat('event ', o.sequence, ' of ', coalesce(c.event_seq, 0),
    case when o.before is not null then concat(' comes after ', o.before) end, case when o.after is null then ' and is the last that is kept' end)
from (
    select customer_id, event_id, sequence, lag(sequence) over w as before, lead(sequence) over w as after
    from (
        select customer_id, event_id, sequence, 0 as stage, place from event_log
        union all select customer_id, event_id, sequence, 1, position from outbox
    ) e window w as (partition by customer_id order by stage, place)
) o
left join customers c using (customer_id)
where o.sequence <> o.before + 1 or (o.after is null and o.sequence <> coalesce(c.event_seq, 0))
union all
select concat_ws(' ', d.customer_id, d.event_id), concat('dead letter ', d.sequence, ' of ', coalesce(c.event_seq, 0), ' events')
from dead_letters d
left join customers c using (customer_id)
where d.sequence > coalesce(c.event_seq, 0)
union all
select concat_ws(' ', l.customer_id, l.event_id), concat('place ', l.place, ' of ', l.last_place, ' in partition ', l.partition,
    case when l.after is not null then concat(' comes before ', l.after) end)
from (
    select e.*, p.last_place, lead(e.place) over (partition by e.partition order by e.place) as after
    from event_log e left join event_partitions p using (partition)
) l
where coalesce(l.after, l.last_place + 1) <> l.place + 1 or l.partition <> event_partition(l.customer_id)
union all
select concat_ws(' ', g.sink, g.partition), concat('has all up to ', g.place, ' of ', p.last_place, ' events')
from event_progress g join event_partitions p using (partition)
where g.place > p.last_place

-- name: audit_outbox_tells_what_happened
-- Each event that is kept says of its payment what is stored, and no two say the same.
select concat_ws(' ', o.customer_id, o.event_id), concat(o.type, ' of ', o.subject, ' says ', coalesce(o.data ->> 'decision', o.data ->> 'resolution', o.data ->> 'reservation'), '; ',
    case when p.payment_id is null then 'there is no such payment' when o.alike > 1 then concat('it is there ', o.alike, ' times')
        else concat_ws(', ', 'stored are ' || p.decision, p.reservation, c.status) end)
from (
    select e.*, count(*) over (partition by customer_id, type, subject) as alike
    from (
        select customer_id, event_id, type, subject, data from outbox
        union all select customer_id, event_id, type, subject, data from event_log
    ) e
) o
left join payments p on p.customer_id = o.customer_id and p.payment_id::text = o.subject
left join cases c on c.customer_id = p.customer_id and c.payment_id = p.payment_id
where (o.type in ('paynow.payment.decided', 'paynow.case.resolved') or starts_with(o.type, 'paynow.reservation.'))
    and (o.alike > 1 or (o.data ->> 'paymentId', o.data ->> 'customerId') is distinct from (p.payment_id::text, p.customer_id)
        or case o.type when 'paynow.payment.decided' then o.data ->> 'decision' is distinct from p.decision::text
            when 'paynow.case.resolved' then (o.data ->> 'caseId', o.data ->> 'resolution', o.data ->> 'resolvedBy')
                is distinct from (c.case_id::text, c.status::text, c.resolved_by)
            else substr(o.type, 20) is distinct from p.reservation::text end)

-- name: audit_reviews_have_one_case
-- Each review has exactly one case or waits for it; none if createCase was not asked for one, which its trace tells. (What a case that
-- another tool opened with the decision has come to, audit_answers_agree tells.)
select concat_ws(' ', customer_id, payment_id),
    case when p.case_pending then 'waits for a case that is open' else concat('is a review with ', coalesce(c.cases, 0), ' cases') end
from payments p
left join (select customer_id, payment_id, count(*) as cases from cases group by 1, 2) c using (customer_id, payment_id)
where p.decision = 'review' and case when p.case_pending then c.cases is not null
    when c.cases is null then jsonb_path_exists(json_or_null(p.answer), '$.agentTrace[*] ? (@.tool == "createCase")')
    else c.cases <> 1 end

-- name: audit_only_reviews_have_cases
-- Each case belongs to a review, of its amount.
select concat_ws(' ', customer_id, c.case_id), concat('is about ', c.amount_minor, ' ', c.currency, ' of ', c.payment_id, '; ',
    case when p.decision is null then 'there is no such payment' else concat('stored are ', p.decision, ', ', p.amount_minor, ' ', p.currency) end)
from cases c
left join payments p using (customer_id, payment_id)
where (p.decision, p.amount_minor, p.currency) is distinct from ('review', c.amount_minor, c.currency)

-- name: audit_cases_reserve_if_approved
-- An approved case's payment holds or held a reservation; of the reviews that have one, each was approved.
select concat_ws(' ', p.customer_id, p.payment_id), concat('its case is ', coalesce(c.status::text, 'missing'), ', its reservation is ',
    coalesce(p.reservation::text, 'none'))
from payments p
left join cases c using (customer_id, payment_id)
where p.decision = 'review' and (p.reservation is not null) <> (c.status is not distinct from 'approved')

-- name: audit_cases_have_their_history
-- What a case says of itself its history says too: entries numbered from one to its counter, and their last ones tell its status, who holds or
-- resolved it, and its label.
select concat_ws(' ', c.customer_id, c.case_id), concat_ws(', ',
    case when coalesce(h.entries, 0) <> c.history_seq or coalesce(h.last, 0) <> c.history_seq
        then concat('counts ', c.history_seq, ' entries of its history; there are ', coalesce(h.entries, 0), ', the last is number ', coalesce(h.last, 0)) end,
    case when (c.status::text, coalesce(c.holder, c.resolved_by)) is distinct from (t.status, t.actor)
        then concat('is ', c.status, ' by ', coalesce(c.holder, c.resolved_by, 'nobody'), '; its history says ', t.status, ' by ', coalesce(t.actor, 'nobody')) end,
    case when c.label is distinct from l.label
        then concat('is labelled ', coalesce(c.label::text, 'not at all'), '; its history says ', coalesce(l.label::text, 'not at all')) end)
from cases c
left join (select customer_id, case_id, count(*) as entries, max(seq) as last from case_history group by 1, 2) h using (customer_id, case_id)
left join (
    select distinct on (customer_id, case_id) customer_id, case_id, act::text as act, actor
    from case_history where act not in ('noted', 'labelled') order by customer_id, case_id, seq desc
) s using (customer_id, case_id)
cross join lateral (
    select coalesce(nullif(s.act, 'unclaimed'), 'open') as status, case when s.act <> 'unclaimed' then s.actor end as actor
) t
left join (
    select distinct on (customer_id, case_id) customer_id, case_id, label
    from case_history where act = 'labelled' order by customer_id, case_id, seq desc
) l using (customer_id, case_id)
where (coalesce(h.entries, 0), coalesce(h.last, 0)) <> (c.history_seq, c.history_seq)
    or (c.status::text, coalesce(c.holder, c.resolved_by)) is distinct from (t.status, t.actor)
    or c.label is distinct from l.label

-- name: audit_spending_counts_allowed
-- What an account counts as ever allowed is the number and sum of the payments that were allowed, or approved in their case.
select concat_ws(' ', customer_id, currency), concat('counts ', coalesce(a.allowed_count, 0), ' allowed of ', coalesce(a.allowed_sum, 0),
    ' in all; there are ', coalesce(p.payments, 0), ' of ', coalesce(p.amount, 0))
from accounts a
full join (
    select customer_id, currency, count(*) as payments, sum(amount_minor) as amount from payments where reservation is not null group by 1, 2
) p using (customer_id, currency)
where (coalesce(a.allowed_count, 0), coalesce(a.allowed_sum, 0)) is distinct from (coalesce(p.payments, 0), coalesce(p.amount, 0))

-- name: audit_signals_count_payments
-- Failed attempts are blocked payments, and usual amounts those of payments allowed or approved: no more than there are, and, since they are counted
-- (an hour later, so that nothing was under way), no fewer.
with since as (select applied_at + interval '1 hour' as at from schema_migrations where version = 5)
select customer_id, concat('counts ', c.failed_count, ' failed attempts; of its payments ', coalesce(p.blocked, 0), ' were blocked')
from customers c
left join (
    select customer_id, count(*) as blocked, count(*) filter (where decided_at > (select at from since)) as counted
    from payments where decision = 'block' group by 1
) p using (customer_id)
where c.failed_count not between coalesce(p.counted, 0) and coalesce(p.blocked, 0)
union all
select concat_ws(' ', customer_id, currency), concat('has ', a.usual_count, ' usual amounts; of its payments ', coalesce(p.allowed, 0), ' were allowed')
from accounts a
left join (
    select customer_id, currency, count(*) as allowed, count(*) filter (where decided_at > (select at from since)) as counted
    from payments where reservation is not null group by 1, 2
) p using (customer_id, currency)
where a.usual_count not between coalesce(p.counted, 0) and coalesce(p.allowed, 0) or a.usual_variance < 0

-- name: audit_payees_count_their_customers
-- A payee's counts of the last day are those of the customers noted for it, and of the payments that were read each has its customer noted: in its
-- hour, or one before if the clock that decided was ahead.
with now_is as (select window_tick(now()) / 360 as hour)
select payee_id, concat('counts ', coalesce(c.customers, 0), ' customers in hour ', hour, '; noted are ', coalesce(k.customers, 0))
from (
    select y.payee_id, cell_hour(y.hour, u.cell) as hour, u.customers
    from payees y, unnest(y.counts) with ordinality u (customers, cell), now_is
    where u.customers <> 0 and cell_hour(y.hour, u.cell) > now_is.hour - 25
) c
full join (
    select k.payee_id, k.hour, count(*) as customers from payee_customers k, now_is where k.hour > now_is.hour - 25 group by 1, 2
) k using (payee_id, hour)
where coalesce(c.customers, 0) <> coalesce(k.customers, 0)
union all
select payee_id, concat('has ', customers, ' customers; its counts come to ', added_up)
from payees, lateral (select sum(n) as added_up from unnest(counts) n) a where customers <> added_up
union all
select concat_ws(' ', p.payee_id, p.customer_id), concat('payment ', p.payment_id, ' was read, and its customer is not noted')
from payments p
cross join payee_position t
cross join now_is
left join payee_customers k on k.payee_id = p.payee_id and k.customer_id = p.customer_id
where p.settled_by is not null and (p.settled_by, p.payment_id) <= (t.read_to, t.read_to_payment)
    and window_tick(p.decided_at) / 360 > now_is.hour - 25 and coalesce(k.hour, 0) < window_tick(p.decided_at) / 360 - 1

-- name: audit_known_payees_were_allowed
-- The payees that a customer is known to pay are those of the payments that were allowed, or approved in their case.
select concat_ws(' ', customer_id, payee_id),
    case when p.allowed is null then 'is known, but no payment was allowed' else concat('is not known, but ', p.allowed, ' payments were allowed') end
from known_payees k
full join (select customer_id, payee_id, count(*) as allowed from payments where reservation is not null group by 1, 2) p using (customer_id, payee_id)
where p.allowed is null or k.first_allowed_at is null

-- name: audit_answers_agree
-- Each stored answer says what the columns say, and its trace leads to its decision. (`offset 0`: parsed once a row, not once a mention.)
select concat_ws(' ', p.customer_id, p.payment_id), concat('the answer ', said.differs)
from payments p
left join unnest(%(currencies)s::text[], %(exponents)s::int[]) u (currency, exponent) on u.currency = p.currency
left join cases c on c.customer_id = p.customer_id and c.payment_id = p.payment_id
cross join lateral (select json_or_null(p.answer) as answer offset 0) j
cross join lateral (
    select jsonb_path_query_first(j.answer, '$.agentTrace[*] ? (@.step == "decide")') ->> 'decision' as decided,
        j.answer -> 'agentTrace' -> -1 as settle
) t
cross join lateral (
    select case when j.answer is null then 'is not JSON' else 'differs in ' || nullif(concat_ws(', ',
        case when j.answer ->> 'paymentId' is distinct from p.payment_id::text then 'paymentId' end,
        case when j.answer ->> 'decision' is distinct from p.decision::text then 'decision' end,
        case when j.answer ->> 'degraded' is distinct from p.degraded::text
            or p.degraded <> jsonb_path_exists(j.answer, '$.agentTrace[*] ? (@.step == "fallback")') then 'degraded' end,
        case when j.answer ->> 'policyVersion' is distinct from p.policy_version then 'policyVersion' end,
        case when j.answer ->> 'caseId' <> coalesce(c.case_id::text, '') then 'caseId' end,
        case when (j.answer -> 'reservation' ->> 'amount', j.answer -> 'reservation' ->> 'currency') is distinct from (
            case when p.decision = 'allow' then round(p.amount_minor / 10::numeric ^ u.exponent, u.exponent)::text end,
            case when p.decision = 'allow' then p.currency end) then 'reservation' end,
        case when (t.settle ->> 'step', t.settle ->> 'decision') is distinct from ('settle', p.decision::text)
            or t.decided is distinct from case when t.settle ->> 'status' = 'overruled' then 'allow' else p.decision::text end then 'agentTrace' end
    ), '') end as differs
) said
where said.differs is not null

-- name: audit_degraded_is_not_more_permissive
-- No degraded decision is milder than the fallbacks of the tools that failed.
select concat_ws(' ', p.customer_id, p.payment_id), concat('the decision is ', p.decision, ', a fallback demands ',
    case when f.block then 'block' else 'review' end)
from payments p
cross join lateral (select json_or_null(p.answer) as answer offset 0) j
cross join lateral (
    select jsonb_path_exists(j.answer, '$.agentTrace[*] ? (@.step == "fallback" && @.onFailure == "block")') as block,
        jsonb_path_exists(j.answer, '$.agentTrace[*] ? (@.step == "fallback" && @.onFailure == "review")') as review
) f
where p.degraded and ((f.block and p.decision <> 'block') or (f.review and p.decision = 'allow'))

-- name: audit_policies_are_unchanged
-- Each policy's version is the hash of its text, so that a decision can be run again by it.
select version, concat('its text, added at ', added_at, ', has another hash')
from policies where version <> left(encode(sha256(convert_to(body, 'UTF8')), 'hex'), 32)

-- name: audit_guards_are_on
-- The schema's own guards are in force: constraints validated, triggers enabled, indexes valid.
select concat_ws(' ', conrelid::regclass, conname), 'the constraint is not validated'
from pg_constraint where connamespace = current_schema()::regnamespace and not convalidated
union all
select concat_ws(' ', tgrelid::regclass, tgname), 'the trigger is disabled'
from pg_trigger join pg_class on pg_class.oid = tgrelid
where relnamespace = current_schema()::regnamespace and tgenabled not in ('O', 'A')
union all
select concat_ws(' ', indrelid::regclass, indexrelid::regclass), 'the index is not valid'
from pg_index join pg_class on pg_class.oid = indrelid
where relnamespace = current_schema()::regnamespace and not indisvalid
