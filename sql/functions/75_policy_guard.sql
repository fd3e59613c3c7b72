-- What the policy guard counts and tells. Every process asks; one of them counts, whichever comes first when it is time.

-- The number of the slice of 5 s that a moment lies in.
create or replace function policy_slice(at timestamptz) returns bigint language sql stable as $$
    select floor(date_part('epoch', at) / 5)::bigint
$$;

create or replace function policy_slice_begins(slice bigint) returns timestamptz language sql stable as $$
    select to_timestamp(slice * 5)
$$;

-- The smallest id that a payment which begins at that moment can have: the ids' first 48 bits are the milliseconds (UUIDv7).
create or replace function first_payment_id(at timestamptz) returns uuid language sql stable as $$
    select (lpad(to_hex(floor(date_part('epoch', at) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid
$$;

-- The decisions of the active policy since its activation, those of the last `p_window` (a slice more at most), and what was last told of their band:
-- one row, none while no policy was ever active. The counts are brought up to date first, unless somebody does so right now or has within
-- `p_every`; `counted` says that it was done. Each call counts at most `p_slices_max` slices beside those that are counted again, so that none takes
-- long; `complete` says that none is missing. A payment is counted if it is decided within `p_late` of the end of the slice that it began in, unless a
-- tool's fallback had a part in it (`degraded`). Each row of payments is read as often as somebody counts within that time, by the index of their ids,
-- which are in the order of time. `inside_s`: the seconds since the shares were last seen outside under this activation, null if that was never told.
create or replace function watch_policy(p_window interval, p_every interval, p_late interval, p_slices_max int) returns table (
    activation bigint, version text, cause text, activated_at timestamptz, age_s double precision,
    decisions bigint, reviews bigint, blocks bigint, counted boolean, complete boolean, outside boolean, told_of bigint, inside_s double precision
) language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    at constant timestamptz := clock_timestamp();
    a policy_activations;
    oldest bigint;
    first bigint;
    mine boolean;
    ignored text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform require_read_committed();
    end if;
    select * into a from policy_activations order by position desc limit 1;
    if not found then
        return;
    end if;
    oldest := policy_slice(greatest(at - p_window, a.at));

    mine := pg_try_advisory_xact_lock(hashtext('policy guard'), 0);
    if mine then
        select coalesce(max(s.slice) < policy_slice(max(s.counted_at)) or max(s.counted_at) <= at - p_every, true),
            greatest(oldest, max(s.slice) filter (where s.counted_at >= policy_slice_begins(s.slice + 1) + p_late) + 1)
        into mine, first
        from policy_slices s where s.activation = a.position;
    end if;
    if mine then
        ignored := set_config('synchronous_commit', 'off', true);
        delete from policy_slices s where s.activation <> a.position or s.slice < oldest;
        for n in first .. least(policy_slice(at), first + p_slices_max + ceil(date_part('epoch', p_late) / 5)::int) loop
            insert into policy_slices as s (activation, slice, decisions, reviews, blocks, counted_at)
            select a.position, n, count(*), count(*) filter (where p.decision = 'review'), count(*) filter (where p.decision = 'block'), at
            from payments p
            where p.payment_id >= first_payment_id(greatest(policy_slice_begins(n), a.at))
                and p.payment_id < first_payment_id(policy_slice_begins(n + 1)) and p.policy_version = a.version
                and not p.degraded
            on conflict (activation, slice) do update set
                decisions = excluded.decisions, reviews = excluded.reviews, blocks = excluded.blocks, counted_at = excluded.counted_at;
        end loop;
    end if;

    return query
    select a.position, a.version, a.cause, a.at, date_part('epoch', at - a.at),
        t.decisions, t.reviews, t.blocks, mine, t.complete, coalesce(c.outside, false), c.activation,
        (select date_part('epoch', at - o.seen_at) from policy_band_outside o where o.activation = a.position)
    from (
        select coalesce(sum(s.decisions), 0)::bigint as decisions, coalesce(sum(s.reviews), 0)::bigint as reviews,
            coalesce(sum(s.blocks), 0)::bigint as blocks, coalesce(max(s.slice) >= policy_slice(max(s.counted_at)), false) as complete
        from policy_slices s where s.activation = a.position and s.slice >= oldest
    ) t
    left join lateral (select x.outside, x.activation from policy_band_crossings x order by x.position desc limit 1) c on true;
end
$$;

-- The shares were seen outside their band under an activation: how long they have been inside counts anew.
create or replace function policy_seen_outside(p_activation bigint) returns void language sql as $$
    insert into policy_band_outside values (p_activation, clock_timestamp()) on conflict (activation) do update set seen_at = excluded.seen_at
$$;

-- The policy to return to from an activation (null: the newest one): that of the newest earlier activation, of another version, that no guard has taken
-- back; of the same version's activations since then none either. With `p_proven` it must have been good as well: not the last that was told of those
-- activations is that their shares had left the band, and it stood for longer than that or somebody chose it as a way back or a beginning. No row if there is none.
create or replace function policy_to_return_to(p_activation bigint, p_proven interval) returns setof policies language sql stable as $$
    with now_active as (
        select * from policy_activations a where p_activation is null or a.position = p_activation order by a.position desc limit 1
    )
    select p.*
    from now_active n
    join policy_activations a on a.position < n.position and a.version <> n.version
    join policies p on p.version = a.version
    where (
            p_proven is null or a.cause <> 'activated'
            or (select b.at from policy_activations b where b.position > a.position order by b.position limit 1) - a.at > p_proven
        )
        and not exists (
            select from policy_activations again
            cross join lateral (
                select c.outside, c.rollback from policy_band_crossings c where c.activation = again.position order by c.position desc limit 1
            ) last
            where again.version = a.version and again.position >= a.position and again.position < n.position
                and last.outside and (p_proven is not null or last.rollback = 'done')
        )
    order by a.position desc limit 1
$$;

-- Tells, once for each time, that the shares have left their band under an activation (`p_outside`) or are back in it: the event, its entry in the
-- history with what became of the way back (`p_rollback`), and, if `p_back_to` names a policy, that policy as the active one again, all or nothing. Returns
--   told       now; also when this very event was told before
--   known      it was told before, by another event: nothing changed
--   overtaken  another policy was made the active one meanwhile: nothing changed
-- Events of policies have no customer: they are numbered among themselves, under a name of their own. In the order of locks it comes before
-- customers: nobody who holds one of those asks for the policies'.
create or replace function cross_policy_band(
    p_activation bigint, p_outside boolean, p_decisions bigint, p_reviews bigint, p_blocks bigint,
    p_event uuid, p_type text, p_data text, p_rollback text, p_back_to text, p_author text
) returns text language plpgsql as $$
declare
    name constant text := 'paynow.policy';
    active text;
    last policy_band_crossings;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform require_read_committed();
    end if;
    perform pg_advisory_xact_lock(hashtext('policies'), 0);
    if exists (select from policy_band_crossings where event_id = p_event) then
        return 'told';
    end if;
    if p_activation <> (select position from policy_activations order by position desc limit 1) then
        return 'overtaken';
    end if;
    select * into last from policy_band_crossings order by position desc limit 1;
    if p_outside and last.outside and last.activation = p_activation or not p_outside and last.outside is not true then
        return 'known';
    end if;

    select version into active from policies where policies.active;
    insert into customers (customer_id) values (name) on conflict do nothing;
    insert into outbox (customer_id, sequence, event_id, type, subject, data)
    select name, n, p_event, p_type, active, p_data::json from unnest(number_decisions(array[name], array[''])) u (n);
    insert into policy_band_crossings (event_id, activation, outside, rollback, decisions, reviews, blocks)
    values (p_event, p_activation, p_outside, p_rollback, p_decisions, p_reviews, p_blocks);
    if p_outside then
        perform policy_seen_outside(p_activation);
    end if;
    if p_back_to is not null then
        perform activate_policy(p_back_to, (select body from policies where version = p_back_to), p_author, 'rolled_back', active);
    end if;
    return 'told';
end
$$;
