-- Ends reservations: 'captured' (the money has left), 'released' or 'expired' (it goes back). One row of the arrays a payment, in one transaction
-- with ledger entry and event. Returns one row a payment:
--   ended         now
--   already       it had ended in the same way before: nothing changed
--   other         it had ended the other way: nothing changed; an expired reservation counts as released to who releases it
--   not_reserved  the payment was not allowed
--   unknown       there is no such payment
--   not_due       'expired' was asked before its time
-- About the form of the joins see 20_claim.sql.
create or replace function end_reservations(
    p_customer text[], p_payment uuid[], p_end reservation_state, p_event uuid[], p_type text, p_data text[]
) returns table (ordinal int, outcome text, state text, ended_at timestamptz) language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    at constant timestamptz := clock_timestamp();
    ends int[];
    now_ended int;
    r record;
begin
    perform require_read_committed();
    perform from customers where customer_id = any (p_customer) order by customer_id for no key update;

    -- One by one in the customers' order: several reservations of one customer may end together, and each takes its own entry and sequence.
    for r in
        select y.customer_id, y.payment_id, y.amount_minor, y.currency, u.i
        from unnest(p_customer, p_payment) with ordinality u (c, p, i)
        cross join lateral (select z.* from payments z where z.customer_id = u.c and z.payment_id = u.p limit 1) y
        where y.reservation = 'held' and (p_end <> 'expired' or y.reserved_until <= at)
        order by y.customer_id, y.payment_id, u.i
    loop
        -- Not `reservation = 'held'`, which would let the planner read the whole index of what is held.
        update payments set reservation = p_end, reservation_ended_at = at
        where customer_id = r.customer_id and payment_id = r.payment_id and reservation is not distinct from 'held';
        continue when not found;      -- it stands twice in the arrays, and has just ended
        with moved as (
            update accounts set reserved = reserved - r.amount_minor, entry_seq = entry_seq + 1,
                available = available + case when p_end = 'captured' then 0 else r.amount_minor end
            where customer_id = r.customer_id and currency = r.currency
            returning entry_seq
        )
        insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change, payment_id)
        select r.customer_id, r.currency, entry_seq, case p_end when 'captured' then 'capture' when 'released' then 'release' else 'expire' end::entry_kind,
            case when p_end = 'captured' then 0 else r.amount_minor end, -r.amount_minor, r.payment_id
        from moved;
        with numbered as (
            update customers set event_seq = event_seq + 1 where customer_id = r.customer_id returning event_seq
        )
        insert into outbox (customer_id, sequence, event_id, type, subject, occurred_at, data)
        select r.customer_id, event_seq, p_event[r.i], p_type, r.payment_id::text, at, p_data[r.i]::json from numbered;
        ends := ends || r.i::int;
    end loop;

    return query
    select u.i::int,
        case
            when y.payment_id is null then 'unknown'
            when u.i = any (ends) then 'ended'
            when y.reservation is null then 'not_reserved'
            when y.reservation = p_end then 'already'
            when y.reservation = 'held' then 'not_due'
            when p_end = 'released' and y.reservation = 'expired' then 'already'
            else 'other'
        end,
        y.reservation::text, y.reservation_ended_at
    from unnest(p_customer, p_payment) with ordinality u (c, p, i)
    left join lateral (
        select z.payment_id, z.reservation, z.reservation_ended_at from payments z where z.customer_id = u.c and z.payment_id = u.p limit 1
    ) y on true;
end
$$;

-- Opens the case of a review for which no WRITE tool could open it; at most one a payment. Without a case it ends the waiting only:
-- the tools have succeeded, and none of them opens cases. True if a case was opened now.
create or replace function open_case(
    p_customer text, p_payment uuid, p_case uuid, p_reasons text, p_priority int, p_due_s int
) returns boolean language plpgsql as $$
begin
    update payments set case_pending = false where customer_id = p_customer and payment_id = p_payment and case_pending;
    if not found or p_case is null then
        return false;
    end if;
    insert into cases (customer_id, case_id, payment_id, amount_minor, currency, reasons, priority, due_at)
    select customer_id, p_case, payment_id, amount_minor, currency, p_reasons::json,
        coalesce(p_priority, 0), now() + coalesce(make_interval(secs => p_due_s), interval '24 hours')
    from payments
    where customer_id = p_customer and payment_id = p_payment;
    return true;
end
$$;

-- What processes call that know of no priority and no due time.
create or replace function open_case(p_customer text, p_payment uuid, p_case uuid, p_reasons text) returns boolean language plpgsql as $$
begin
    return open_case(p_customer, p_payment, p_case, p_reasons, null, null);
end
$$;
