-- Settles decided payments, one row of the arrays a payment, a customer at most once. In one transaction: the claim token is checked before
-- anything moves, the customer is locked, funds are checked again (allow only), and entry, decision, answer, amounts, case and event are written.
-- Returns one row a payment:
--   settled  with the decision; a repetition with the same token gets the stored decision and the stored answer
--   short    it was to be allowed, and the money is gone: nothing was written, and the claim still holds
--   fenced   the token is old: somebody else took the claim, and nothing was written
-- Locks in one order: customers, then their keys, accounts and spending.
create or replace function settle_payments(
    p_customer text[], p_key text[], p_token uuid[], p_payment uuid[], p_payee text[], p_amount bigint[], p_currency text[], p_policy text[],
    p_decided_at timestamptz[], p_decision text[], p_degraded boolean[], p_reserved_until timestamptz[], p_event uuid[],
    p_answer text[], p_data text[], p_case uuid[], p_case_reasons text[], p_case_pending boolean[]
) returns table (ordinal int, outcome text, decision text, answer text) language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    mine int[];
begin
    perform require_read_committed();
    if (select count(distinct c) from unnest(p_customer) u (c)) < cardinality(p_customer) then
        raise exception 'a settle batch holds a customer twice' using errcode = 'invalid_parameter_value';
    end if;

    insert into customers (customer_id)
    select c from unnest(p_customer) u (c) where not exists (select from customers x where x.customer_id = u.c) order by c
    on conflict do nothing;
    perform from customers where customer_id = any (p_customer) order by customer_id for no key update;

    -- A new statement: it sees all that was committed before the locks were ours.
    with held as materialized (
        select x.customer_id, x.key, r.i
        from unnest(p_customer, p_key, p_token) with ordinality as r (c, k, u, i)
        join idempotency_keys x on x.customer_id = r.c and x.key = r.k
        where x.claim_token = r.u and x.state = 'processing'
        order by x.customer_id, x.key for update of x
    ), batch as materialized (
        select p_customer[i] as customer, key, p_payment[i] as payment, p_payee[i] as payee, p_amount[i] as amount, p_currency[i] as currency,
            p_decision[i]::decision as decided, i
        from held
    ), paid as (
        update accounts a set available = a.available - b.amount, reserved = a.reserved + b.amount, entry_seq = a.entry_seq + 1
        from batch b
        where b.decided = 'allow' and a.customer_id = b.customer and a.currency = b.currency and a.available >= b.amount
        returning b.i, a.entry_seq
    ), final as materialized (
        select b.*, paid.entry_seq from batch b left join paid using (i) where b.decided <> 'allow' or paid.i is not null
    ), done as (
        update idempotency_keys x set state = 'decided', lease_until = null, payee_id = null, amount_minor = null, currency = null,
            request_id = null, policy_version = null
        from final where x.customer_id = final.customer and x.key = final.key
    ), stored as (
        insert into payments (customer_id, payment_id, payee_id, amount_minor, currency, decision, degraded, policy_version, reservation,
            reserved_until, case_pending, decided_at, answer)
        select customer, payment, payee, amount, currency, decided, p_degraded[i], p_policy[i],
            case when decided = 'allow' then 'held'::reservation_state end, case when decided = 'allow' then p_reserved_until[i] end,
            p_case_pending[i], p_decided_at[i], p_answer[i]
        from final
    ), entered as (
        insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change, payment_id)
        select customer, currency, entry_seq, 'reserve', -amount, amount, payment from final where decided = 'allow'
    ), counted as (
        insert into spending as s (customer_id, currency, as_of, amounts, allowed_count, allowed_sum)
        select customer, currency, clock_timestamp(), windows_of(clock_timestamp(), amount), 1, amount from final where decided = 'allow'
        on conflict (customer_id, currency) do update set
            as_of = greatest(s.as_of, excluded.as_of),
            amounts = windows_add(s.amounts, s.as_of, excluded.as_of, excluded.allowed_sum::bigint),
            allowed_count = s.allowed_count + 1,
            allowed_sum = s.allowed_sum + excluded.allowed_sum
    ), met as (
        insert into known_payees (customer_id, payee_id) select customer, payee from final where decided = 'allow' on conflict do nothing
    ), numbered as (
        update customers c set event_seq = c.event_seq + 1 from final f where c.customer_id = f.customer returning f.i, c.event_seq
    ), told as (
        insert into outbox (customer_id, sequence, event_id, type, subject, occurred_at, data)
        select customer, event_seq, p_event[i], 'paynow.payment.decided', payment::text, p_decided_at[i], p_data[i]::json
        from final join numbered using (i)
    ), opened as (
        insert into cases (customer_id, case_id, payment_id, amount_minor, currency, reasons)
        select customer, p_case[i], payment, amount, currency, p_case_reasons[i]::json from final where decided = 'review' and p_case[i] is not null
    )
    select array_agg(i) into mine from final;

    return query
    select r.i::int,
        case when r.i = any (mine) or y.answer is not null then 'settled' when x.state = 'processing' then 'short' else 'fenced' end,
        case when r.i = any (mine) then r.d else y.decision::text end,
        case when r.i = any (mine) then null else y.answer end
    from unnest(p_customer, p_key, p_token, p_decision) with ordinality r (c, k, u, d, i)
    left join idempotency_keys x on x.customer_id = r.c and x.key = r.k and x.claim_token = r.u
    left join payments y on x.state = 'decided' and y.customer_id = x.customer_id and y.payment_id = x.payment_id;
end
$$;
