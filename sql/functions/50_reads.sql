-- What tools ask, one row of the arrays a payment, each in a time that does not depend on the customer's history.

create or replace function read_balances(p_customer text[], p_currency text[])
    returns table (ordinal int, available bigint, reserved bigint) language sql stable
set enable_seqscan = off
as $$
    select r.i::int, coalesce(a.available, 0), coalesce(a.reserved, 0)
    from unnest(p_customer, p_currency) with ordinality r (c, u, i)
    left join accounts a on a.customer_id = r.c and a.currency = r.u
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
    at constant timestamptz := clock_timestamp();
begin
    return query
    select r.i::int,
        tried.attempts, tried.attempted,
        coalesce(windows_total(s.amounts, s.as_of, at), '{0,0,0}'),
        coalesce(s.allowed_count, 0),
        coalesce(round(s.allowed_sum / s.allowed_count)::bigint, 0),
        exists (select from known_payees k where k.customer_id = r.c and k.payee_id = r.p),
        read_listing('payee', r.p), read_listing('customer', r.c)
    from unnest(p_customer, p_currency, p_payee) with ordinality r (c, u, p, i)
    cross join lateral (
        select
            array[coalesce(sum(n[1]), 0), coalesce(sum(n[2]), 0), coalesce(sum(n[3]), 0)]::bigint[] as attempts,
            coalesce(max(m), '{0,0,0}') as attempted
        from attempts a,
            lateral windows_total(a.counts, a.as_of, at) n,
            lateral (select case when a.currency = r.u then windows_total(a.amounts, a.as_of, at) end) q (m)
        where a.customer_id = r.c
    ) tried
    left join spending s on s.customer_id = r.c and s.currency = r.u;
end
$$;
