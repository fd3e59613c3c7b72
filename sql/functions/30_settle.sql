-- Locks customers, in their order, and gives each the number of its next event; a block counts as a failed attempt.
create or replace function number_decisions(p_customer text[], p_decision text[]) returns bigint[] language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    tick constant int := window_tick(clock_timestamp());
    sequences bigint[];
begin
    with numbered as (
        update customers c set event_seq = c.event_seq + 1,
            failed_hours = case when r.failed then hours_roll(c.failed_hours, c.failed_count, c.failed_tick, tick) else c.failed_hours end,
            failed_tick = case when r.failed then greatest(c.failed_tick, tick) else c.failed_tick end,
            failed_count = c.failed_count + r.failed::int
        from (select u.c, u.i, u.d = 'block' as failed from unnest(p_customer, p_decision) with ordinality u (c, d, i) order by u.c) r
        where c.customer_id = any (array[r.c])
        returning r.i, c.event_seq
    )
    select coalesce(array_agg(event_seq order by i), '{}') into sequences from numbered;
    return sequences;
end
$$;

-- Settles decided payments, one row of the arrays a payment, a customer at most once. In one transaction: the customer is locked, the funds (allow
-- only) and the claim token are checked, and entry, decision, answer, amounts, case and event are written where both hold; else nothing is.
-- Returns one row a payment:
--   settled  with the decision; a repetition with the same token gets the stored decision and the stored answer
--   short    it was to be allowed, and the money is gone: nothing was written, and the claim still holds
--   fenced   the token is old: somebody else took the claim, and nothing was written
-- or, if all of them are settled now, a single row without an ordinal.
-- Locks in one order: customers, then their keys and accounts. About the form of the joins see 20_claim.sql.
create or replace function settle_payments(
    p_customer text[], p_key text[], p_token uuid[], p_payment uuid[], p_payee text[], p_amount bigint[], p_currency text[], p_policy text[],
    p_decided_at timestamptz[], p_decision text[], p_degraded boolean[], p_reserved_until timestamptz[], p_event uuid[],
    p_answer text[], p_data text[], p_case uuid[], p_case_reasons text[], p_case_pending boolean[],
    p_case_priority int[], p_case_due_s int[]
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
    charged int[];        -- whose money has moved
    late int[] := '{}';   -- whose money must not move: the token is old, or has settled before
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform require_read_committed();
    end if;

    -- A customer who is not there yet, and a token found to be old when its money has moved, undo the whole try, its locks included, for another one
    -- that knows: so the order of locks holds, an account is what it was to the last digit, and a try that succeeds pays nothing for it.
    loop
        begin
            -- The lock on each customer, and the event's number with it.
            sequences := number_decisions(p_customer, p_decision);
            if cardinality(sequences) < n then
                raise exception using errcode = 'PN404';
            end if;

            -- A new statement: it sees all that was committed before the locks were ours. The money moves where there is enough of it, then the keys
            -- whose token still holds are decided, and what is decided is written.
            with paid as (
                update accounts a set available = a.available - r.amount, reserved = a.reserved + r.amount, entry_seq = a.entry_seq + 1,
                    allowed_sums = case when tick > a.allowed_tick
                        then windows_roll(a.allowed_sums, a.allowed_sum, a.allowed_tick, tick) else a.allowed_sums end,
                    allowed_tick = greatest(a.allowed_tick, tick),
                    allowed_count = a.allowed_count + 1,
                    allowed_sum = a.allowed_sum + r.amount,
                    usual_count = a.usual_count + 1,
                    usual_mean = usual_mean(a.usual_count, a.usual_mean, r.amount),
                    usual_variance = usual_variance(a.usual_count, a.usual_mean, a.usual_variance, r.amount)
                from (
                    select u.c, u.i, p_amount[u.i]::amount_minor as amount from unnest(p_customer) with ordinality u (c, i)
                    where p_decision[u.i] = 'allow' and u.i <> all (late) order by u.c
                ) r
                where a.customer_id = any (array[r.c]) and a.currency = any (array[p_currency[r.i]]) and a.available >= r.amount
                returning r.c, r.i, r.amount, a.currency, a.entry_seq
            ), final as (
                update idempotency_keys x set state = 'decided', lease_until = null, payee_id = null, amount_minor = null, currency = null,
                    request_id = null, policy_version = null
                from (
                    select c, i, amount, currency, entry_seq, 'allow'::decision as decided from paid
                    union all
                    select u.c, u.i, p_amount[u.i]::amount_minor, p_currency[u.i]::currency_code, null, p_decision[u.i]::decision
                    from unnest(p_customer) with ordinality u (c, i)
                    where p_decision[u.i] <> 'allow'
                    order by c
                ) r
                where x.customer_id = any (array[r.c]) and x.key = any (array[p_key[r.i]]) and x.claim_token = any (array[p_token[r.i]])
                    and x.state <> 'decided'
                returning x.customer_id, r.i, r.amount, r.currency, r.entry_seq, r.decided, p_payee[r.i]::party_id as payee
            ), stored as (
                insert into payments (customer_id, payment_id, payee_id, amount_minor, currency, decision, degraded, policy_version, reservation,
                    reserved_until, case_pending, decided_at, answer)
                select f.customer_id, p_payment[f.i], f.payee, f.amount, f.currency, f.decided, p_degraded[f.i], p_policy[f.i],
                    case when f.decided = 'allow' then 'held'::reservation_state end, case when f.decided = 'allow' then p_reserved_until[f.i] end,
                    p_case_pending[f.i], p_decided_at[f.i], p_answer[f.i]
                from final f
            ), entered as (
                insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change, payment_id)
                select f.customer_id, f.currency, f.entry_seq, 'reserve', -f.amount, f.amount, p_payment[f.i] from final f where f.decided = 'allow'
            ), met as (
                insert into known_payees (customer_id, payee_id)
                select f.customer_id, f.payee from final f where f.decided = 'allow' on conflict do nothing
            ), told as (
                insert into outbox (customer_id, sequence, event_id, type, subject, occurred_at, data)
                select f.customer_id, sequences[f.i], p_event[f.i], 'paynow.payment.decided', p_payment[f.i]::text, p_decided_at[f.i],
                    p_data[f.i]::json
                from final f
            )
            select coalesce(array_agg(f.i), '{}'), (select coalesce(array_agg(p.i), '{}') from paid p) into mine, charged from final f;

            exit when cardinality(mine) = n or charged <@ mine;
            raise exception using errcode = 'PN409';
        exception
            when sqlstate 'PN404' then
                if (select count(distinct c) from unnest(p_customer) u (c)) < n then
                    raise exception 'a settle batch holds a customer twice' using errcode = 'invalid_parameter_value';
                end if;
                insert into customers (customer_id)
                select u.c from unnest(p_customer) u (c)
                where (select x.customer_id from customers x where x.customer_id = u.c limit 1) is null order by u.c
                on conflict do nothing;
            when sqlstate 'PN409' then
                -- A token that does not hold now never will again.
                late := late || array(select i from unnest(charged) i where i <> all (mine));
        end;
    end loop;

    if cardinality(array_remove(p_case, null)) > 0 then
        insert into cases (customer_id, case_id, payment_id, amount_minor, currency, reasons, priority, due_at)
        select u.c, p_case[u.i], p_payment[u.i], p_amount[u.i], p_currency[u.i], p_case_reasons[u.i]::json,
            coalesce(p_case_priority[u.i], 0), now() + coalesce(make_interval(secs => p_case_due_s[u.i]), interval '24 hours')
        from unnest(p_customer) with ordinality u (c, i)
        where u.i = any (mine) and p_decision[u.i] = 'review' and p_case[u.i] is not null;
    end if;
    if cardinality(mine) = n then
        outcome := 'settled';
        return next;
        return;
    end if;

    -- The others have no event and no failed attempt. (A ring that was rolled on for nothing says what it said before.)
    update customers c set event_seq = c.event_seq - 1, failed_count = c.failed_count - (p_decision[r.i] = 'block')::int
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

-- What processes call that know of no priority and no due time of a case; they may still run while this is applied.
create or replace function settle_payments(
    p_customer text[], p_key text[], p_token uuid[], p_payment uuid[], p_payee text[], p_amount bigint[], p_currency text[], p_policy text[],
    p_decided_at timestamptz[], p_decision text[], p_degraded boolean[], p_reserved_until timestamptz[], p_event uuid[],
    p_answer text[], p_data text[], p_case uuid[], p_case_reasons text[], p_case_pending boolean[]
) returns table (ordinal int, outcome text, decision text, answer text) language plpgsql as $$
begin
    return query
    select s.ordinal, s.outcome, s.decision, s.answer
    from settle_payments(p_customer, p_key, p_token, p_payment, p_payee, p_amount, p_currency, p_policy, p_decided_at, p_decision, p_degraded,
        p_reserved_until, p_event, p_answer, p_data, p_case, p_case_reasons, p_case_pending, null, null) s;
end
$$;
