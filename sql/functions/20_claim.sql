-- Claims idempotency keys, one row of the arrays a payment, a key at most once. Returns one row a payment:
--   claimed       the key was unknown: it is ours now, under the given token and payment id; the attempt was counted
--   taken_over    its process let the lease run out: it is ours now, under the given token and its own payment id and policy version
--   decided       its answer
--   in_flight     somebody else is deciding it
--   mismatch      it stands for another payment
--   rate_limited  the key is unknown and the customer has no token left
--   vanished      the key's retention ended while we looked: claim again
-- Locks in one order: rate_limits by customer, keys by (customer, key), attempts by (customer, currency). Never the customer's own row,
-- so a claim does not wait behind a settle's flush; and without a flush of its own (`p_durable` false), because nothing has happened yet.
create or replace function claim_payments(
    p_customer text[], p_key text[], p_fingerprint bytea[], p_payment uuid[], p_token uuid[],
    p_payee text[], p_amount bigint[], p_currency text[], p_request text[], p_policy text[],
    p_lease interval, p_rate double precision, p_burst integer, p_durable boolean
) returns table (
    ordinal int, outcome text, payment_id uuid, policy_version text, answer text, remaining int, wait_s double precision, reset_s double precision
) language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    at timestamptz;
    unknown int[];
    limited boolean := p_rate is not null;
    refused int[] := '{}';
    kept int[];
    inserted int[];
    buckets rate_limits[];
begin
    perform require_read_committed();
    if not p_durable then
        perform set_config('synchronous_commit', 'off', true);
    end if;

    select array_agg(r.i) into unknown
    from unnest(p_customer, p_key) with ordinality r (c, k, i)
    where not exists (select from idempotency_keys x where x.customer_id = r.c and x.key = r.k);

    if unknown is not null then
        kept := unknown;
        if limited then
            at := clock_timestamp();
            with asked as (
                select p_customer[i] as c, count(*)::int as n from unnest(unknown) u (i) group by 1 order by 1
            ), taken as (
                insert into rate_limits as l (subject, kind, full_at, granted)
                select c, 'customer', at + least(n, p_burst) * interval '1 s' / p_rate, least(n, p_burst) from asked order by c
                on conflict (subject, kind) do update set
                    granted = least((select n from asked where c = l.subject),
                        greatest(0, floor(p_burst - date_part('epoch', greatest(l.full_at, at) - at) * p_rate + 1e-6)::int)),
                    full_at = greatest(l.full_at, at) + interval '1 s' / p_rate * least((select n from asked where c = l.subject),
                        greatest(0, floor(p_burst - date_part('epoch', greatest(l.full_at, at) - at) * p_rate + 1e-6)::int))
                returning l.*
            )
            select array_agg(row(taken.*)::rate_limits) into buckets from taken;

            select coalesce(array_agg(q.i) filter (where q.nth > b.granted), '{}'), array_agg(q.i) filter (where q.nth <= b.granted)
            into refused, kept
            from (select i, p_customer[i] as c, row_number() over (partition by p_customer[i] order by i) as nth from unnest(unknown) u (i)) q
            join unnest(buckets) b on b.subject = q.c;
        end if;

        with ins as (
            insert into idempotency_keys (customer_id, key, fingerprint, payment_id, claim_token, lease_until, payee_id, amount_minor, currency,
                request_id, policy_version)
            select p_customer[i], p_key[i], p_fingerprint[i], p_payment[i], p_token[i], clock_timestamp() + p_lease, p_payee[i], p_amount[i],
                p_currency[i], p_request[i], p_policy[i]
            from unnest(kept) u (i) order by p_customer[i], p_key[i]
            on conflict do nothing
            returning claim_token
        )
        select array_agg(u.i) into inserted from unnest(kept) u (i) join ins on ins.claim_token = p_token[u.i];

        if limited and coalesce(cardinality(inserted), 0) < coalesce(cardinality(kept), 0) then
            -- Somebody claimed the key meanwhile: it is known, so its token goes back.
            update rate_limits l set full_at = l.full_at - back.n * interval '1 s' / p_rate
            from (select p_customer[i] as c, count(*) as n from unnest(kept) u (i) where i <> all (coalesce(inserted, '{}')) group by 1) back
            where l.subject = back.c and l.kind = 'customer';
        end if;

        at := clock_timestamp();
        insert into attempts as a (customer_id, currency, as_of, counts, amounts)
        select p_customer[i], p_currency[i], at, windows_of(at, count(*)), windows_of(at, sum(p_amount[i])::bigint)
        from unnest(inserted) u (i) group by 1, 2 order by 1, 2
        on conflict (customer_id, currency) do update set
            as_of = greatest(a.as_of, excluded.as_of),
            counts = windows_add(a.counts, a.as_of, excluded.as_of, windows_latest(excluded.counts, excluded.as_of)),
            amounts = windows_add(a.amounts, a.as_of, excluded.as_of, windows_latest(excluded.amounts, excluded.as_of));
    end if;

    if coalesce(cardinality(inserted), 0) < cardinality(p_key) then
        -- Leases that have run out. A claim that repeats itself (its own token) just reads its row below.
        with over as materialized (
            select x.customer_id, x.key, r.u
            from unnest(p_customer, p_key, p_fingerprint, p_token) r (c, k, f, u)
            join idempotency_keys x on x.customer_id = r.c and x.key = r.k
            where x.state = 'processing' and x.lease_until < clock_timestamp() and x.fingerprint = r.f and x.claim_token <> r.u
            order by x.customer_id, x.key for update of x
        )
        update idempotency_keys x set claim_token = over.u, lease_until = clock_timestamp() + p_lease
        from over where x.customer_id = over.customer_id and x.key = over.key;
    end if;

    return query
    select r.i::int,
        case
            when x.claim_token = r.u and x.state = 'processing' then case when x.payment_id = r.p then 'claimed' else 'taken_over' end
            when x.fingerprint <> r.f then 'mismatch'
            when x.state = 'decided' then 'decided'
            when x.state = 'processing' then 'in_flight'
            when r.i = any (refused) then 'rate_limited'
            else 'vanished'
        end,
        x.payment_id,
        x.policy_version,
        y.answer,
        t.tokens::int,
        case when t.tokens < 1 then (1 - t.tokens) / p_rate else 0 end,
        (p_burst - t.tokens) / p_rate
    from unnest(p_customer, p_key, p_fingerprint, p_token, p_payment) with ordinality r (c, k, f, u, p, i)
    left join idempotency_keys x on x.customer_id = r.c and x.key = r.k
    left join payments y on x.state = 'decided' and x.fingerprint = r.f and y.customer_id = x.customer_id and y.payment_id = x.payment_id
    left join unnest(buckets) b on b.subject = r.c
    left join lateral (
        select greatest(0, p_burst - date_part('epoch', greatest(b.full_at, clock_timestamp()) - clock_timestamp()) * p_rate) as tokens
    ) t on b.subject is not null;
end
$$;

-- A definite failure ends its own lease, so that the next try need not wait for it.
create or replace function abandon_claims(p_customer text[], p_key text[], p_token uuid[]) returns void
    language sql as $$
    update idempotency_keys x set lease_until = clock_timestamp() - interval '1 ms'
    from unnest(p_customer, p_key, p_token) r (c, k, u)
    where x.customer_id = r.c and x.key = r.k and x.claim_token = r.u and x.state = 'processing'
$$;

-- Takes one token for one subject outside a claim (API keys).
create or replace function take_token(p_kind text, p_subject text, p_rate double precision, p_burst integer)
    returns table (allowed boolean, remaining int, wait_s double precision, reset_s double precision)
    language sql as $$
    insert into rate_limits as l (subject, kind, full_at, granted)
    values (p_subject, p_kind, clock_timestamp() + interval '1 s' / p_rate, 1)
    on conflict (subject, kind) do update set
        granted = least(1, greatest(0, floor(p_burst - date_part('epoch', greatest(l.full_at, clock_timestamp()) - clock_timestamp()) * p_rate + 1e-6)::int)),
        full_at = greatest(l.full_at, clock_timestamp()) + interval '1 s' / p_rate
            * least(1, greatest(0, floor(p_burst - date_part('epoch', greatest(l.full_at, clock_timestamp()) - clock_timestamp()) * p_rate + 1e-6)::int))
    returning granted > 0,
        floor(greatest(0, p_burst - date_part('epoch', full_at - clock_timestamp()) * p_rate) + 1e-6)::int,
        greatest(0, 1 - (p_burst - date_part('epoch', full_at - clock_timestamp()) * p_rate)) / p_rate,
        greatest(0, date_part('epoch', full_at - clock_timestamp()))
$$;
