-- Settled payments, for who follows them behind the payments: the counting of payees and the shadow policies. They are read in the order of the
-- transactions that settled them, up to the oldest that has not ended: none can come to lie before those any more, in whatever order they end, so that
-- none is missed. A place is the last payment that was read, by `settled_by` and `payment_id`; who stores it together with what the payments came
-- to counts none twice. Transactions are numbered by the cluster: a place beyond all that ever happened in this one is of another, from which the
-- database was restored (`settled_elsewhere`), and reading begins anew with what is settled from then on. What a restore brought along lies among
-- what comes later then; `p_since` leaves out what was decided before a moment.

create or replace function settled_payments(p_by xid8, p_payment uuid, p_since timestamptz, p_limit int) returns setof payments
    language sql stable as $$
    select * from payments p
    where (p.settled_by, p.payment_id) > (p_by, p_payment) and p.settled_by >= p_by and p.settled_by < pg_snapshot_xmin(pg_current_snapshot())
        and p.decided_at >= p_since
    order by p.settled_by, p.payment_id
    limit p_limit
$$;

-- How many seconds ago the oldest payment beyond a place was decided, 0 if there is none.
create or replace function settled_behind_s(p_by xid8, p_payment uuid, p_since timestamptz) returns double precision
    language sql stable as $$
    select coalesce((
        select greatest(0, date_part('epoch', clock_timestamp() - p.decided_at)) from payments p
        where (p.settled_by, p.payment_id) > (p_by, p_payment) and p.settled_by >= p_by and p.settled_by < pg_snapshot_xmax(pg_current_snapshot())
            and p.decided_at >= p_since
        order by p.settled_by, p.payment_id limit 1
    ), 0)
$$;

create or replace function settled_elsewhere(p_by xid8) returns boolean language sql stable as $$
    select p_by > pg_snapshot_xmax(pg_current_snapshot())
$$;
