-- What people do to cases. Every act is an entry of the case's history in the same transaction; what changes nothing writes none.
-- Outcomes that both functions have, each with the case as it is then:
--   done      now
--   already   it was so, by the same key: nothing changed
--   held      another key holds it: nothing changed
--   resolved  it was approved or declined before, otherwise or by another key: nothing changed
--   unknown   there is no such case

-- The case as it is told, and how long its money is held if it was approved.
create or replace function tell_case(p_customer text, p_case uuid, p_outcome text)
    returns table (outcome text, seen cases, reserved_until timestamptz) language sql stable as $$
    select p_outcome, c, p.reserved_until
    from (select) always
    left join cases c on c.customer_id = p_customer and c.case_id = p_case
    left join payments p on p.customer_id = c.customer_id and p.payment_id = c.payment_id
$$;

create or replace function enter_case_act(p_case cases, p_act case_act, p_actor text, p_note text, p_label case_label) returns void
    language sql as $$
    with numbered as (
        update cases set history_seq = history_seq + 1 where customer_id = (p_case).customer_id and case_id = (p_case).case_id returning history_seq
    )
    insert into case_history (customer_id, case_id, seq, act, actor, note, label)
    select (p_case).customer_id, (p_case).case_id, history_seq, p_act, p_actor, p_note, p_label from numbered
$$;

-- Claims, unclaims (`p_any_holder`: also what another key holds), notes or labels a case. It locks the case alone: whoever comes second sees what the
-- first has done, so that a case has one holder however many claim it at once.
create or replace function work_case(
    p_customer text, p_case uuid, p_act case_act, p_actor text, p_any_holder boolean, p_note text, p_label case_label
) returns table (outcome text, seen cases, reserved_until timestamptz) language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    c cases;
    last case_history;
    outcome text;
begin
    perform require_read_committed();
    select * into c from cases where customer_id = p_customer and case_id = p_case for no key update;
    if p_act in ('noted', 'labelled') then
        select * into last from case_history h where h.customer_id = p_customer and h.case_id = p_case and h.seq = c.history_seq;
    end if;
    outcome := case
        when c.case_id is null then 'unknown'
        when p_act = 'noted' then case when (last.act, last.actor, last.note) is not distinct from (p_act, p_actor, p_note) then 'already' else 'done' end
        when p_act = 'labelled' then case when c.label is not distinct from p_label then 'already' else 'done' end
        when c.status in ('approved', 'declined') then 'resolved'
        when p_act = 'claimed' then case when c.holder is null then 'done' when c.holder = p_actor then 'already' else 'held' end
        else case when c.holder is null then 'already' when c.holder = p_actor or p_any_holder then 'done' else 'held' end
    end;
    if outcome = 'done' then
        case p_act
            when 'claimed' then
                update cases set status = 'claimed', holder = p_actor, claimed_at = clock_timestamp() where customer_id = p_customer and case_id = p_case;
            when 'unclaimed' then
                update cases set status = 'open', holder = null, claimed_at = null where customer_id = p_customer and case_id = p_case;
            when 'labelled' then
                update cases set label = p_label where customer_id = p_customer and case_id = p_case;
            else null;
        end case;
        perform enter_case_act(c, p_act, p_actor, p_note, p_label);
    end if;
    return query select * from tell_case(p_customer, p_case, outcome);
end
$$;

-- Approves or declines a case, with its event. Approving reserves the payment's money as a settle does, in the same order of locks: the customer, then
-- what belongs to it. What is approved counts as allowed, from now on. One outcome more:
--   short     it was to be approved, and there is too little money: nothing changed
create or replace function resolve_case(
    p_customer text, p_case uuid, p_resolution case_status, p_actor text, p_ttl interval, p_event uuid, p_data text
) returns table (outcome text, seen cases, reserved_until timestamptz) language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    at constant timestamptz := clock_timestamp();
    tick constant int := window_tick(at);
    c cases;
    p payments;
    entry bigint;
    outcome text;
begin
    perform require_read_committed();
    perform from customers where customer_id = p_customer for no key update;
    select * into c from cases where customer_id = p_customer and case_id = p_case for no key update;
    outcome := case
        when c.case_id is null then 'unknown'
        when c.status = p_resolution and c.resolved_by = p_actor then 'already'
        when c.status in ('approved', 'declined') then 'resolved'
        when c.holder <> p_actor then 'held'
        else 'done'
    end;
    if outcome = 'done' and p_resolution = 'approved' then
        select * into p from payments y where y.customer_id = p_customer and y.payment_id = c.payment_id;
        update accounts a set available = a.available - p.amount_minor, reserved = a.reserved + p.amount_minor, entry_seq = a.entry_seq + 1,
            allowed_sums = case when tick > a.allowed_tick then windows_roll(a.allowed_sums, a.allowed_sum, a.allowed_tick, tick) else a.allowed_sums end,
            allowed_tick = greatest(a.allowed_tick, tick),
            allowed_count = a.allowed_count + 1,
            allowed_sum = a.allowed_sum + p.amount_minor,
            usual_count = a.usual_count + 1,
            usual_mean = usual_mean(a.usual_count, a.usual_mean, p.amount_minor),
            usual_variance = usual_variance(a.usual_count, a.usual_mean, a.usual_variance, p.amount_minor)
        where a.customer_id = p_customer and a.currency = p.currency and a.available >= p.amount_minor
        returning a.entry_seq into entry;
        if entry is null then
            outcome := 'short';
        else
            update payments set reservation = 'held', reserved_until = at + p_ttl where customer_id = p_customer and payment_id = c.payment_id;
            insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change, payment_id)
            values (p_customer, p.currency, entry, 'reserve', -p.amount_minor, p.amount_minor, p.payment_id);
            insert into known_payees (customer_id, payee_id) values (p_customer, p.payee_id) on conflict do nothing;
        end if;
    end if;
    if outcome = 'done' then
        update cases set status = p_resolution, holder = null, claimed_at = null, resolved_by = p_actor, resolved_at = at
        where customer_id = p_customer and case_id = p_case;
        perform enter_case_act(c, p_resolution::text::case_act, p_actor, null, null);
        with numbered as (
            update customers set event_seq = event_seq + 1 where customer_id = p_customer returning event_seq
        )
        insert into outbox (customer_id, sequence, event_id, type, subject, occurred_at, data)
        select p_customer, event_seq, p_event, 'paynow.case.resolved', c.payment_id::text, at, p_data::json from numbered;
    end if;
    return query select * from tell_case(p_customer, p_case, outcome);
end
$$;
