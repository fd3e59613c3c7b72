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

create or replace function read_activity(p_customer text[], p_currency text[], p_payee text[])
    returns table (
        ordinal int, attempts bigint[], attempted bigint[], allowed bigint[], allowed_count bigint, allowed_mean bigint,
        payee_known boolean, payee_list text, customer_list text
    ) language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    at constant int := window_tick(clock_timestamp());
    listed constant boolean := exists (select from lists);
begin
    return query
    select r.i::int,
        tried.attempts, tried.attempted,
        case when s.allowed_count > 0 then windows_total(s.allowed_sums, s.allowed_sum, s.allowed_tick, at) else '{0,0,0}' end,
        coalesce(s.allowed_count, 0),
        case when s.allowed_count > 0 then round(s.allowed_sum / s.allowed_count)::bigint else 0 end,
        (select k.customer_id from known_payees k where k.customer_id = r.c and k.payee_id = p_payee[r.i] limit 1) is not null,
        case when listed then read_listing('payee', p_payee[r.i]) else 'none' end,
        case when listed then read_listing('customer', r.c) else 'none' end
    from unnest(p_customer) with ordinality r (c, i)
    cross join lateral (
        select
            array[coalesce(sum(t.n[1]), 0), coalesce(sum(t.n[2]), 0), coalesce(sum(t.n[3]), 0)]::bigint[] as attempts,
            coalesce(max(t.m), '{0,0,0}') as attempted
        from (
            select windows_total(a.counts, a.total_count, a.tick, at) as n,
                case when a.currency = p_currency[r.i] then windows_total(a.amounts, a.total_amount, a.tick, at) end as m
            from attempts a where a.customer_id = r.c offset 0
        ) t
    ) tried
    left join lateral (
        select x.allowed_sums, x.allowed_sum, x.allowed_tick, x.allowed_count from accounts x
        where x.customer_id = r.c and x.currency = p_currency[r.i] limit 1
    ) s on true;
end
$$;
