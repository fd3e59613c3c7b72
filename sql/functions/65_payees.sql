-- How many customers pay a payee, over all customers, counted behind the payments: a settle never waits for a payee. A customer counts in the hour of
-- the last decided payment to the payee, whatever the decision, and so once; a payee's counts are those of 25 hours, the current one included, hour h in
-- the cell h mod 25.

-- Which hour the cell (from 1) of a payee's counts holds, the newest being `p_hour`.
create or replace function cell_hour(p_hour int, p_cell bigint) returns bigint language sql immutable as $$
    select p_hour - (p_hour - p_cell + 1) % 25
$$;

-- The counts in the hour `p_at` or the row's own, whichever is later, with customers who come in their hours and leave those in which they were before.
create or replace function payee_counts(p_counts int[], p_hour int, p_at int, p_come int[], p_leave int[]) returns int[]
    language plpgsql immutable as $$
declare
    newest constant int := greatest(p_hour, p_at);
    counts int[] := p_counts;
    h int;
begin
    for h in greatest(p_hour, newest - 25) + 1 .. newest loop
        counts[h % 25 + 1] := 0;
    end loop;
    foreach h in array coalesce(p_come, '{}') loop
        if h > newest - 25 then
            counts[h % 25 + 1] := counts[h % 25 + 1] + 1;
        end if;
    end loop;
    foreach h in array coalesce(p_leave, '{}') loop
        if h > newest - 25 then
            counts[h % 25 + 1] := counts[h % 25 + 1] - 1;
        end if;
    end loop;
    return counts;
end
$$;

-- Counts the next settled payments, at most so many, and says how many those were and how old the oldest is that it leaves, 0 if there is none; no row
-- while somebody else is at it. They are taken in the order of the transactions that settled them, up to the oldest that has not ended: none can come
-- to lie before those any more, so that none is missed. What they come to is stored with how far it has read, so that none counts twice; and it
-- needs no flush, for what a crash forgets is read again.
create or replace function count_payees(p_payments int) returns table (counted int, behind_s double precision) language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    this_hour constant int := window_tick(clock_timestamp()) / 360;
    ignored text;
    place payee_position;
    last_by xid8;
    last_payment uuid;
begin
    perform require_read_committed();
    select * into strict place from payee_position;
    if settled_elsewhere(place.read_to) then
        update payee_position set read_to = pg_snapshot_xmin(pg_current_snapshot()), read_to_payment = '00000000-0000-0000-0000-000000000000'
        returning * into place;
    end if;
    if exists (select from settled_payments(place.read_to, place.read_to_payment, '-infinity', 1))
        or exists (select from payee_customers where hour <= this_hour - 25)
    then
        ignored := set_config('synchronous_commit', 'off', true);
        select * into place from payee_position for update skip locked;
        if not found then
            return;
        end if;

        with read as materialized (
            select p.settled_by, p.payment_id, p.customer_id, p.payee_id, p.decided_at, least(window_tick(p.decided_at) / 360, this_hour) as hour
            from settled_payments(place.read_to, place.read_to_payment, '-infinity', p_payments) p
        ), came as materialized (
            select n.payee_id, n.customer_id, n.hour, k.hour as before
            from (select payee_id, customer_id, max(hour) as hour from read group by 1, 2) n
            left join lateral (
                select x.hour from payee_customers x where x.payee_id = n.payee_id and x.customer_id = n.customer_id limit 1
            ) k on true
            where n.hour > this_hour - 25 and n.hour > coalesce(k.hour, 0)
        ), noted as (
            insert into payee_customers (payee_id, customer_id, hour) select payee_id, customer_id, hour from came
            on conflict (payee_id, customer_id) do update set hour = excluded.hour
        ), counted as (
            insert into payees (payee_id, first_seen_at, hour, counts, customers)
            select n.payee_id, least(n.first_at, y.first_seen_at), greatest(this_hour, y.hour), t.counts, (select sum(u) from unnest(t.counts) u)
            from (select payee_id, min(decided_at) as first_at from read group by 1) n
            left join (select payee_id, array_agg(hour) as come, array_remove(array_agg(before), null) as leave from came group by 1) c using (payee_id)
            left join lateral (select * from payees x where x.payee_id = n.payee_id limit 1) y on true
            cross join lateral (
                select payee_counts(coalesce(y.counts, array_fill(0, array[25])), coalesce(y.hour, this_hour), this_hour, c.come, c.leave) as counts
                offset 0
            ) t
            where c.payee_id is not null or n.first_at < y.first_seen_at is not false
            on conflict (payee_id) do update set first_seen_at = excluded.first_seen_at, hour = excluded.hour, counts = excluded.counts,
                customers = excluded.customers
        )
        select count(*), (array_agg(settled_by order by settled_by desc, payment_id desc))[1],
            (array_agg(payment_id order by settled_by desc, payment_id desc))[1]
        into counted, last_by, last_payment from read;

        if counted > 0 then
            update payee_position set read_to = last_by, read_to_payment = last_payment returning * into place;
        end if;

        -- Who has not paid for 25 hours counts nowhere any more.
        delete from payee_customers x
        using (select payee_id, customer_id from payee_customers where hour <= this_hour - 25 limit p_payments) k
        where x.payee_id = any (array[k.payee_id]) and x.customer_id = any (array[k.customer_id]);
    end if;

    return query select coalesce(counted, 0), settled_behind_s(place.read_to, place.read_to_payment, '-infinity');
end
$$;
