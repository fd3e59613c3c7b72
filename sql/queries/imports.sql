-- name: take_import_turn
-- One import at a time, until its transaction ends: opening amounts change in imports only, so what one has judged stays so.
select pg_advisory_xact_lock(hashtext('paynow.import'))

-- name: make_importing
-- The lines of the file, out of the way of everything else.
create temporary table importing (line bigint not null, customer_id text not null, currency text not null, opening bigint not null) on commit drop

-- name: copy_importing
-- Takes a chunk of lines.
copy importing (line, customer_id, currency, opening) from stdin

-- name: analyze_importing
-- A plan for so many lines, not for an empty table.
analyze importing

-- name: importing_doubles
-- Lines whose account stands on an earlier line already, the first of them, and how many there are.
select line, concat('the account stands on line ', first_line, ' already'), count(*) over ()
from (select line, min(line) over (partition by customer_id, currency) as first_line from importing) seen
where line <> first_line
order by line
limit %s

-- name: add_importing_customers
-- Customers who are new, in the order in which everybody locks.
insert into customers (customer_id)
select distinct customer_id from importing i where not exists (select from customers c where c.customer_id = i.customer_id)
order by customer_id
on conflict do nothing

-- name: lock_importing_customers
-- Locks whose accounts will be opened or adjusted, in the order in which everybody locks; the others go on being decided meanwhile.
select count(*) from (
    select from customers
    where customer_id in (
        select i.customer_id from importing i
        where not exists (select from accounts a where a.customer_id = i.customer_id and a.currency = i.currency and a.opening = i.opening)
    )
    order by customer_id
    for no key update
) locked

-- name: judge_importing
-- What each line comes to, now that the locks are ours:
--   created    the account is opened with a credit entry
--   unchanged  it has this opening amount already
--   adjusted   an entry of the difference is written
--   differs    it has another opening amount, and nobody asked to adjust it
--   too_low    the difference would take what is available below zero
create temporary table judged on commit drop as
select i.line, i.customer_id, i.currency, i.opening, i.opening - coalesce(a.opening, 0) as change, coalesce(a.entry_seq, 0) as entry_seq,
    a.available, case
        when a.customer_id is null then 'created'
        when a.opening = i.opening then 'unchanged'
        when not %(adjust)s then 'differs'
        when a.available + i.opening - a.opening < 0 then 'too_low'
        else 'adjusted'
    end as verdict, a.opening as opening_now
from importing i
left join accounts a on a.customer_id = i.customer_id and a.currency = i.currency

-- name: judged_counts
-- How many lines came to what.
select verdict, count(*) from judged group by 1

-- name: judged_faults
-- Lines that cannot be brought in, the first of them, with what stands in the way: minor units, and the currency that tells how to write them.
select line, verdict, currency, opening_now, available, change from judged where verdict in ('differs', 'too_low') order by line limit %s

-- name: carry_out_judged
-- Opens and adjusts the accounts, each with its ledger entry.
with opened as (
    insert into accounts (customer_id, currency, available, opening, entry_seq)
    select customer_id, currency, opening, opening, case when opening > 0 then 1 else 0 end from judged where verdict = 'created'
), moved as (
    update accounts a set available = a.available + j.change, opening = j.opening, entry_seq = a.entry_seq + 1
    from judged j where j.verdict = 'adjusted' and a.customer_id = j.customer_id and a.currency = j.currency
)
insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change)
select customer_id, currency, entry_seq + 1, case verdict when 'created' then 'credit' else 'adjust' end::entry_kind, change, 0
from judged where verdict = 'adjusted' or (verdict = 'created' and opening > 0)
