-- Claims idempotency keys, one row of the arrays a payment, a key at most once. Returns one row a payment:
--   claimed       the key was unknown: it is ours now, under the given token and payment id; the attempt was counted
--   taken_over    its process let the lease run out: it is ours now, under the given token and its own payment id and policy version
--   decided       its answer
--   in_flight     somebody else is deciding it
--   mismatch      it stands for another payment
--   rate_limited  the key is unknown and the customer has no token left
--   vanished      the key's retention ended while we looked: claim again
-- or, without a limit and if all of them are claimed, a single row without an ordinal.
-- Locks in one order: keys by (customer, key), rate_limits by customer, attempts by (customer, currency). Never the customer's own row, so a claim
-- does not wait behind a settle's flush; and without a flush of its own (`p_durable` false), because nothing has happened yet.
--
-- Joins to tables say `= any (array[x])` or stand in a subquery with a limit: that leaves the planner nothing but a look into the index for each
-- row, whatever it believes of the table's size. Hash and merge joins would read the whole index once the table has grown.
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
    at constant timestamptz := clock_timestamp();
    tick constant int := window_tick(at);
    n constant int := cardinality(p_key);
    entered uuid[];       -- the tokens whose keys are ours now
    subjects text[];      -- the customers whose limit was asked, when their buckets are full again, and how many tokens each got
    fulls timestamptz[];
    grants int[];
    granted int;
    ignored text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform require_read_committed();
    end if;
    if not p_durable then
        ignored := set_config('synchronous_commit', 'off', true);
    end if;

    -- The keys first: one that is known costs no token. A customer whose bucket is seen to be empty is not let in at all, so that refusing
    -- a flood writes nothing.
    with entered as (
        insert into idempotency_keys (customer_id, key, fingerprint, payment_id, claim_token, lease_until, payee_id, amount_minor, currency,
            request_id, policy_version)
        select r.c, p_key[r.i], p_fingerprint[r.i], p_payment[r.i], p_token[r.i], clock_timestamp() + p_lease, p_payee[r.i], p_amount[r.i],
            p_currency[r.i], p_request[r.i], p_policy[r.i]
        from unnest(p_customer) with ordinality r (c, i)
        where p_rate is null
            or (select l.full_at from rate_limits l where l.subject = r.c and l.kind = 'customer' limit 1)
                <= at + (p_burst - 1 + 1e-6) * interval '1 s' / p_rate is not false
            or (select x.payment_id from idempotency_keys x where x.customer_id = r.c and x.key = p_key[r.i] limit 1) is not null
        order by r.c, p_key[r.i]
        on conflict do nothing
        returning customer_id, currency, amount_minor, claim_token
    ), taken as (
        insert into rate_limits as l (subject, kind, full_at, granted)
        select customer_id, 'customer', at + least(count(*), p_burst) * interval '1 s' / p_rate, least(count(*), p_burst)
        from entered where p_rate is not null group by customer_id order by customer_id
        on conflict (subject, kind) do update set
            granted = tokens_granted(l.full_at, at, excluded.granted, p_rate, p_burst),
            full_at = greatest(l.full_at, at) + tokens_granted(l.full_at, at, excluded.granted, p_rate, p_burst) * interval '1 s' / p_rate
        returning subject, full_at, granted
    ), counted as (
        insert into attempts as a (customer_id, currency, tick, total_count, total_amount)
        select customer_id, currency, tick, count(*), sum(amount_minor) from entered group by 1, 2 order by 1, 2
        on conflict (customer_id, currency) do update set
            counts = case when excluded.tick > a.tick then windows_roll(a.counts, a.total_count, a.tick, excluded.tick) else a.counts end,
            amounts = case when excluded.tick > a.tick then windows_roll(a.amounts, a.total_amount, a.tick, excluded.tick) else a.amounts end,
            tick = greatest(a.tick, excluded.tick),
            total_count = a.total_count + excluded.total_count,
            total_amount = a.total_amount + excluded.total_amount
    )
    select e.tokens, t.subjects, t.fulls, t.grants, coalesce(t.granted, cardinality(e.tokens))
    into entered, subjects, fulls, grants, granted
    from (select coalesce(array_agg(claim_token), '{}') as tokens from entered) e,
        (select array_agg(subject) as subjects, array_agg(full_at) as fulls, array_agg(granted) as grants, sum(granted) as granted from taken) t;

    if cardinality(entered) = n and granted = n then
        if p_rate is null then
            outcome := 'claimed';
            return next;
        else
            return query
            select r.i::int, 'claimed', null::uuid, null::text, null::text, floor(t.tokens + 1e-6)::int,
                case when t.tokens < 1 then (1 - t.tokens) / p_rate else 0 end, (p_burst - t.tokens) / p_rate
            from unnest(p_customer) with ordinality r (c, i)
            cross join lateral (
                select greatest(0, p_burst - date_part('epoch', fulls[array_position(subjects, r.c)] - at) * p_rate) as tokens
            ) t;
        end if;
        return;
    end if;

    if granted < cardinality(entered) then
        -- Somebody took the last tokens meanwhile, or the batch itself asked for too many: what came last leaves no trace.
        with refused as materialized (
            select q.c, q.k, q.t, q.a, q.m
            from (
                select r.*, row_number() over (partition by r.c order by r.i) as nth
                from unnest(p_customer, p_key, p_token, p_amount, p_currency) with ordinality r (c, k, t, a, m, i)
                where r.t = any (entered)
            ) q
            where q.nth > grants[array_position(subjects, q.c)]
        ), undone as (
            delete from idempotency_keys x using refused r
            where x.customer_id = any (array[r.c]) and x.key = any (array[r.k]) and x.claim_token = r.t
        )
        update attempts a set total_count = a.total_count - r.count, total_amount = a.total_amount - r.amount
        from (select c, m, count(*) as count, sum(a) as amount from refused group by 1, 2) r
        where a.customer_id = any (array[r.c]) and a.currency = any (array[r.m]);
    end if;

    if cardinality(entered) < n then
        -- Leases that have run out. A claim that repeats itself (its own token) just reads its row below.
        update idempotency_keys x set claim_token = r.t, lease_until = clock_timestamp() + p_lease
        from (select * from unnest(p_customer, p_key, p_fingerprint, p_token) u (c, k, f, t) order by u.c, u.k) r
        where x.customer_id = any (array[r.c]) and x.key = any (array[r.k])
            and x.state <> 'decided' and x.lease_until < clock_timestamp() and x.fingerprint = r.f and x.claim_token <> r.t;
    end if;

    return query
    select r.i::int, o.outcome, x.payment_id, x.policy_version,
        case when o.outcome = 'decided' then (
            select y.answer from payments y where y.customer_id = r.c and y.payment_id = x.payment_id limit 1
        ) end,
        case when o.asked then floor(t.tokens + 1e-6)::int end,
        case when o.asked then case when t.tokens < 1 then (1 - t.tokens) / p_rate else 0 end end,
        case when o.asked then (p_burst - t.tokens) / p_rate end
    from unnest(p_customer, p_key, p_fingerprint, p_token, p_payment) with ordinality r (c, k, f, u, p, i)
    left join lateral (
        select z.* from idempotency_keys z where z.customer_id = r.c and z.key = r.k limit 1
    ) x on true
    left join lateral (
        select greatest(0, p_burst - date_part('epoch', greatest(l.full_at, at) - at) * p_rate) as tokens
        from rate_limits l where p_rate is not null and l.subject = r.c and l.kind = 'customer' limit 1
    ) t on true
    cross join lateral (
        select *, q.outcome = 'rate_limited' or r.u = any (entered) and t.tokens is not null as asked
        from (
            select case
                when x.claim_token = r.u and x.state = 'processing' then case when x.payment_id = r.p then 'claimed' else 'taken_over' end
                when x.fingerprint <> r.f then 'mismatch'
                when x.state = 'decided' then 'decided'
                when x.state = 'processing' then 'in_flight'
                when t.tokens + 1e-6 < 1 then 'rate_limited'
                else 'vanished'
            end as outcome
        ) q
    ) o;
end
$$;

-- How many of the wanted tokens a bucket has.
create or replace function tokens_granted(full_at timestamptz, at timestamptz, wanted int, rate double precision, burst int) returns int
    language sql immutable as $$
    select least(wanted, greatest(0, floor(burst - date_part('epoch', greatest(full_at, at) - at) * rate + 1e-6)::int))
$$;

-- A definite failure ends its own lease, so that the next try need not wait for it.
create or replace function abandon_claims(p_customer text[], p_key text[], p_token uuid[]) returns void
    language sql
set enable_seqscan = off
as $$
    update idempotency_keys x set lease_until = clock_timestamp() - interval '1 ms'
    from (select * from unnest(p_customer, p_key, p_token) u (c, k, t) order by u.c, u.k) r
    where x.customer_id = any (array[r.c]) and x.key = any (array[r.k]) and x.claim_token = any (array[r.t]) and x.state <> 'decided'
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
