-- Claims keys as claim_payments does, and where all of them are claimed reads in the same trip what the built-in tools would ask next: a statement
-- costs about as much as the work in it, and these are statements that nearly every payment needs. The reads come after the claims, in statements of
-- their own, so they see this attempt. They follow as rows with the outcome `seen`.
-- Of two claims of one customer at once the second reads when the first is committed, so that they see each other: both write the customer's bucket of
-- rate_limits before they read; without a limit they take a lock of the customer's name in its place. Their rows of attempts may be two, one a currency.
create or replace function claim_with_signals(
    p_customer text[], p_key text[], p_fingerprint bytea[], p_payment uuid[], p_token uuid[],
    p_payee text[], p_amount bigint[], p_currency text[], p_request text[], p_policy text[],
    p_lease interval, p_rate double precision, p_burst integer, p_durable boolean
) returns table (
    ordinal int, outcome text, payment_id uuid, policy_version text, answer text, remaining int, wait_s double precision, reset_s double precision,
    available bigint, reserved bigint, attempts bigint[], attempted bigint[], allowed bigint[], allowed_count bigint, allowed_mean bigint,
    payee_known boolean, payee_list text, customer_list text,
    failed_attempts bigint, usual_count int, usual_mean double precision, usual_deviation double precision,
    since_allowed_s bigint, customer_age_s bigint, payee_known_s bigint, payee_age_s bigint, payee_customers bigint
) language plpgsql
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    ours boolean := true;
begin
    if p_rate is null then
        perform pg_advisory_xact_lock(55, h) from (select distinct hashtext(c) as h from unnest(p_customer) u (c) order by 1) locks;
    end if;
    for ordinal, outcome, payment_id, policy_version, answer, remaining, wait_s, reset_s in
        select * from claim_payments(p_customer, p_key, p_fingerprint, p_payment, p_token, p_payee, p_amount, p_currency, p_request, p_policy,
            p_lease, p_rate, p_burst, p_durable)
    loop
        ours := ours and outcome = 'claimed';
        return next;
    end loop;
    if ours then
        return query
        select b.ordinal, 'seen', null::uuid, null::text, null::text, null::int, null::double precision, null::double precision,
            b.available, b.reserved, s.attempts, s.attempted, s.allowed, s.allowed_count, s.allowed_mean, s.payee_known, s.payee_list, s.customer_list,
            s.failed_attempts, s.usual_count, s.usual_mean, s.usual_deviation, s.since_allowed_s, s.customer_age_s, s.payee_known_s, s.payee_age_s,
            s.payee_customers
        from read_balances(p_customer, p_currency) b
        join read_signals(p_customer, p_currency, p_payee) s on s.ordinal = b.ordinal;
    end if;
end
$$;

-- What processes call that know of no more signals; they may still run while this is applied.
create or replace function claim_and_look(
    p_customer text[], p_key text[], p_fingerprint bytea[], p_payment uuid[], p_token uuid[],
    p_payee text[], p_amount bigint[], p_currency text[], p_request text[], p_policy text[],
    p_lease interval, p_rate double precision, p_burst integer, p_durable boolean
) returns table (
    ordinal int, outcome text, payment_id uuid, policy_version text, answer text, remaining int, wait_s double precision, reset_s double precision,
    available bigint, reserved bigint, attempts bigint[], attempted bigint[], allowed bigint[], allowed_count bigint, allowed_mean bigint,
    payee_known boolean, payee_list text, customer_list text
) language plpgsql as $$
begin
    return query
    select s.ordinal, s.outcome, s.payment_id, s.policy_version, s.answer, s.remaining, s.wait_s, s.reset_s,
        s.available, s.reserved, s.attempts, s.attempted, s.allowed, s.allowed_count, s.allowed_mean, s.payee_known, s.payee_list, s.customer_list
    from claim_with_signals(p_customer, p_key, p_fingerprint, p_payment, p_token, p_payee, p_amount, p_currency, p_request, p_policy,
        p_lease, p_rate, p_burst, p_durable) s;
end
$$;
