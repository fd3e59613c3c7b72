-- Opens accounts, or brings them to another opening amount; one row of the arrays an account, each at most once. Returns how each came out:
--   created    with its credit entry
--   unchanged  it has this opening amount already
--   adjusted   an entry of the difference was written (only with `p_adjust`)
--   differs    it has another opening amount, and nothing was written
--   too_low    the difference would take what is available below zero, and nothing was written
create or replace function import_accounts(p_customer text[], p_currency text[], p_amount bigint[], p_adjust boolean)
    returns table (ordinal int, outcome text) language plpgsql as $$
#variable_conflict use_column
begin
    perform require_read_committed();
    insert into customers (customer_id) select distinct c from unnest(p_customer) u (c) order by c on conflict do nothing;
    perform from customers where customer_id = any (p_customer) order by customer_id for no key update;

    return query
    with asked as materialized (
        select r.c, r.u, r.a, r.i, x.customer_id is null as absent, x.opening, x.available, x.entry_seq
        from unnest(p_customer, p_currency, p_amount) with ordinality r (c, u, a, i)
        left join accounts x on x.customer_id = r.c and x.currency = r.u
    ), judged as materialized (
        select *, case
            when absent then 'created'
            when opening = a then 'unchanged'
            when not p_adjust then 'differs'
            when available + a - opening < 0 then 'too_low'
            else 'adjusted'
        end as verdict
        from asked
    ), opened as (
        insert into accounts (customer_id, currency, available, opening, entry_seq)
        select c, u, a, a, case when a > 0 then 1 else 0 end from judged where verdict = 'created'
    ), moved as (
        update accounts x set available = x.available + j.a - j.opening, opening = j.a, entry_seq = x.entry_seq + 1
        from judged j where verdict = 'adjusted' and x.customer_id = j.c and x.currency = j.u
    ), entered as (
        insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change)
        select c, u, case verdict when 'created' then 1 else entry_seq + 1 end,
            case verdict when 'created' then 'credit' else 'adjust' end::entry_kind,
            case verdict when 'created' then a else a - opening end, 0
        from judged where verdict = 'adjusted' or (verdict = 'created' and a > 0)
    )
    select i::int, verdict from judged;
end
$$;
