-- What tools ask, one row of the arrays a payment, each in a time that does not depend on the customer's history. About the form of the joins see
-- 20_claim.sql.

create or replace function read_balances(p_customer text[], p_currency text[])
    returns table (ordinal int, available bigint, reserved bigint) language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
    return query
    select r.i::int, coalesce(a.available, 0), coalesce(a.reserved, 0)
    from unnest(p_customer) with ordinality r (c, i)
    left join lateral (
        select x.available, x.reserved from accounts x where x.customer_id = r.c and x.currency = p_currency[r.i] limit 1
    ) a on true;
end
$$;

create or replace function read_listing(p_kind listed_kind, p_subject text) returns text language sql stable as $$
    select coalesce(max(listing)::text, 'none') from lists
    where kind = p_kind and subject = p_subject and (expires_at is null or expires_at > clock_timestamp())
$$;

-- The customer's own history, and what is known of the payee over all customers (functions/65_payees.sql). Times are seconds, 0 of what never was;
-- `since_allowed_s` is at most ten years, which stand for never too: the last allowed payment is known to the tick that it fell in.
create or replace function read_signals(p_customer text[], p_currency text[], p_payee text[])
    returns table (
        ordinal int, attempts bigint[], attempted bigint[], allowed bigint[], allowed_count bigint, allowed_mean bigint,
        payee_known boolean, payee_list text, customer_list text,
        failed_attempts bigint, usual_count int, usual_mean double precision, usual_deviation double precision,
        since_allowed_s bigint, customer_age_s bigint, payee_known_s bigint, payee_age_s bigint, payee_customers bigint
    ) language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    now_at constant timestamptz := clock_timestamp();
    at constant int := window_tick(now_at);
    listed constant boolean := exists (select from lists);
begin
    return query
    select r.i::int,
        tried.attempts, tried.attempted,
        case when s.allowed_count > 0 then windows_total(s.allowed_sums, s.allowed_sum, s.allowed_tick, at) else '{0,0,0}' end,
        coalesce(s.allowed_count, 0),
        case when s.allowed_count > 0 then round(s.allowed_sum / s.allowed_count)::bigint else 0 end,
        k.known_at is not null,
        case when listed then read_listing('payee', p_payee[r.i]) else 'none' end,
        case when listed then read_listing('customer', r.c) else 'none' end,
        coalesce(
            (select window_sum(x.failed_hours, x.failed_count, x.failed_tick, at, 360, 25, 0) from customers x where x.customer_id = r.c limit 1), 0
        ),
        coalesce(s.usual_count, 0), coalesce(s.usual_mean, 0), sqrt(coalesce(s.usual_variance, 0)),
        least(315360000, 10 * greatest(0, at - coalesce(
            (select max(x.allowed_tick) from accounts x where x.customer_id = r.c and x.allowed_count > 0), 0
        ))::bigint),
        seconds_since(tried.first_at, now_at), seconds_since(k.known_at, now_at), seconds_since(y.first_seen_at, now_at), coalesce(y.customers, 0)
    from unnest(p_customer) with ordinality r (c, i)
    cross join lateral (
        select
            array[coalesce(sum(t.n[1]), 0), coalesce(sum(t.n[2]), 0), coalesce(sum(t.n[3]), 0)]::bigint[] as attempts,
            coalesce(max(t.m), '{0,0,0}') as attempted,
            min(t.first_at) as first_at
        from (
            select windows_total(a.counts, a.total_count, a.tick, at) as n,
                case when a.currency = p_currency[r.i] then windows_total(a.amounts, a.total_amount, a.tick, at) end as m,
                a.first_at
            from attempts a where a.customer_id = r.c offset 0
        ) t
    ) tried
    left join lateral (
        select x.allowed_sums, x.allowed_sum, x.allowed_tick, x.allowed_count, x.usual_count, x.usual_mean, x.usual_variance from accounts x
        where x.customer_id = r.c and x.currency = p_currency[r.i] limit 1
    ) s on true
    left join lateral (
        select x.first_allowed_at as known_at from known_payees x where x.customer_id = r.c and x.payee_id = p_payee[r.i] limit 1
    ) k on true
    left join lateral (
        select x.first_seen_at, case when x.hour = at / 360 then x.customers
            else (select sum(n) from unnest(x.counts) with ordinality u (n, cell) where cell_hour(x.hour, cell) > at / 360 - 25) end as customers
        from payees x where x.payee_id = p_payee[r.i] limit 1
    ) y on true;
end
$$;

create or replace function seconds_since(p_then timestamptz, p_now timestamptz) returns bigint language sql immutable as $$
    select greatest(0, floor(coalesce(date_part('epoch', p_now - p_then), 0)))::bigint
$$;

-- What processes call that know of no more signals; they may still run while this is applied.
create or replace function read_activity(p_customer text[], p_currency text[], p_payee text[])
    returns table (
        ordinal int, attempts bigint[], attempted bigint[], allowed bigint[], allowed_count bigint, allowed_mean bigint,
        payee_known boolean, payee_list text, customer_list text
    ) language plpgsql stable as $$
begin
    return query
    select s.ordinal, s.attempts, s.attempted, s.allowed, s.allowed_count, s.allowed_mean, s.payee_known, s.payee_list, s.customer_list
    from read_signals(p_customer, p_currency, p_payee) s;
end
$$;
