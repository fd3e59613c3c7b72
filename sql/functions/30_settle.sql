-- Locks customers, in their order, and gives each the number of its next event.
create or replace function number_events(p_customer text[]) returns bigint[] language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    sequences bigint[];
begin
    with numbered as (
        update customers c set event_seq = c.event_seq + 1
        from (select u.c, u.i from unnest(p_customer) with ordinality u (c, i) order by u.c) r
        where c.customer_id = any (array[r.c])
        returning r.i, c.event_seq
    )
    select coalesce(array_agg(event_seq order by i), '{}') into sequences from numbered;
    return sequences;
end
$$;

-- Settles decided payments, one row of the arrays a payment, a customer at most once. In one transaction: the customer is locked, the claim token
-- is checked and so are the funds (allow only) before anything moves, and entry, decision, answer, amounts, case and event are written.
-- Returns one row a payment:
--   settled  with the decision; a repetition with the same token gets the stored decision and the stored answer
--   short    it was to be allowed, and the money is gone: nothing was written, and the claim still holds
--   fenced   the token is old: somebody else took the claim, and nothing was written
-- or, if all of them are settled now, a single row without an ordinal.
-- Locks in one order: customers, then their keys and accounts. About the form of the joins see 20_claim.sql.
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
    n constant int := cardinality(p_customer);
    tick constant int := window_tick(clock_timestamp());
    sequences bigint[];   -- the number of each payment's event
    mine int[];           -- what is settled now
    allowed int;
    paid int;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform require_read_committed();
    end if;

    -- The lock on each customer, and the event's number with it. A customer who is not there yet comes in before any lock is held, or the order
    -- of locks would be lost: so the locks are let go and taken again.
    begin
        sequences := number_events(p_customer);
        if cardinality(sequences) < n then
            raise exception using errcode = 'PN404';
        end if;
    exception when sqlstate 'PN404' then
        if (select count(distinct c) from unnest(p_customer) u (c)) < n then
            raise exception 'a settle batch holds a customer twice' using errcode = 'invalid_parameter_value';
        end if;
        insert into customers (customer_id)
        select u.c from unnest(p_customer) u (c)
        where (select x.customer_id from customers x where x.customer_id = u.c limit 1) is null order by u.c
        on conflict do nothing;
        sequences := number_events(p_customer);
    end;

    -- A new statement: it sees all that was committed before the locks were ours. Accounts change only under them, so what is read here holds.
    with final as (
        update idempotency_keys x set state = 'decided', lease_until = null, payee_id = null, amount_minor = null, currency = null,
            request_id = null, policy_version = null
        from (
            select u.c, u.i, p_decision[u.i]::decision as decided, p_amount[u.i] as amount, a.entry_seq
            from unnest(p_customer) with ordinality u (c, i)
            left join lateral (
                select a.entry_seq + 1 as entry_seq from accounts a
                where a.customer_id = u.c and a.currency = p_currency[u.i] and a.available >= p_amount[u.i] and p_decision[u.i] = 'allow'
                limit 1
            ) a on true
            where p_decision[u.i] <> 'allow' or a.entry_seq is not null
            order by u.c
        ) r
        where x.customer_id = any (array[r.c]) and x.key = any (array[p_key[r.i]]) and x.claim_token = any (array[p_token[r.i]])
            and x.state <> 'decided'
        returning r.c, r.i, r.decided, r.amount, r.entry_seq
    ), paid as (
        update accounts a set available = a.available - f.amount, reserved = a.reserved + f.amount, entry_seq = f.entry_seq,
            allowed_sums = case when tick > a.allowed_tick
                then windows_roll(a.allowed_sums, a.allowed_sum, a.allowed_tick, tick) else a.allowed_sums end,
            allowed_tick = greatest(a.allowed_tick, tick),
            allowed_count = a.allowed_count + 1,
            allowed_sum = a.allowed_sum + f.amount
        from final f
        where f.decided = 'allow' and a.customer_id = any (array[f.c]) and a.currency = any (array[p_currency[f.i]]) and a.available >= f.amount
        returning f.i
    ), stored as (
        insert into payments (customer_id, payment_id, payee_id, amount_minor, currency, decision, degraded, policy_version, reservation,
            reserved_until, case_pending, decided_at, answer)
        select f.c, p_payment[f.i], p_payee[f.i], f.amount, p_currency[f.i], f.decided, p_degraded[f.i], p_policy[f.i],
            case when f.decided = 'allow' then 'held'::reservation_state end, case when f.decided = 'allow' then p_reserved_until[f.i] end,
            p_case_pending[f.i], p_decided_at[f.i], p_answer[f.i]
        from final f
    ), entered as (
        insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change, payment_id)
        select f.c, p_currency[f.i], f.entry_seq, 'reserve', -f.amount, f.amount, p_payment[f.i] from final f where f.decided = 'allow'
    ), met as (
        insert into known_payees (customer_id, payee_id) select f.c, p_payee[f.i] from final f where f.decided = 'allow' on conflict do nothing
    ), told as (
        insert into outbox (customer_id, sequence, event_id, type, subject, occurred_at, data)
        select f.c, sequences[f.i], p_event[f.i], 'paynow.payment.decided', p_payment[f.i]::text, p_decided_at[f.i], p_data[f.i]::json from final f
    )
    select coalesce(array_agg(f.i), '{}'), count(*) filter (where f.decided = 'allow'), (select count(*) from paid)
    into mine, allowed, paid from final f;

    if allowed <> paid then
        raise exception 'an account changed without its customer''s lock';
    end if;
    if cardinality(array_remove(p_case, null)) > 0 then
        insert into cases (customer_id, case_id, payment_id, amount_minor, currency, reasons)
        select u.c, p_case[u.i], p_payment[u.i], p_amount[u.i], p_currency[u.i], p_case_reasons[u.i]::json
        from unnest(p_customer) with ordinality u (c, i)
        where u.i = any (mine) and p_decision[u.i] = 'review' and p_case[u.i] is not null;
    end if;
    if cardinality(mine) = n then
        outcome := 'settled';
        return next;
        return;
    end if;

    -- No event for the others.
    update customers c set event_seq = c.event_seq - 1
    from unnest(p_customer) with ordinality r (c, i)
    where c.customer_id = any (array[r.c]) and r.i <> all (mine);

    return query
    select r.i::int,
        case when r.i = any (mine) or y.answer is not null then 'settled' when x.state = 'processing' then 'short' else 'fenced' end,
        case when r.i = any (mine) then p_decision[r.i] else y.decision::text end,
        case when r.i = any (mine) then null else y.answer end
    from unnest(p_customer, p_key, p_token) with ordinality r (c, k, u, i)
    left join lateral (
        select z.state, z.payment_id from idempotency_keys z where z.customer_id = r.c and z.key = r.k and z.claim_token = r.u limit 1
    ) x on true
    left join lateral (
        select z.decision, z.answer from payments z where x.state = 'decided' and z.customer_id = r.c and z.payment_id = x.payment_id limit 1
    ) y on true;
end
$$;
