-- The way of events from the outbox to the sinks. Every partition of the customers is with one relay at a time, for as long as it says that it lives;
-- only that one moves the partition's events into the log and hands them on. What a crash of the server forgets of this is done again in the same
-- order, so none of it needs a flush: an event may be delivered again, and never in another order.

-- The partition of a customer: the first hexadecimal digit of the event's partition key.
create or replace function event_partition(p_customer text) returns smallint language sql immutable strict as $$
    select (get_byte(sha256(p_customer::bytea), 0) >> 4)::smallint
$$;

-- Says that a relay lives and which sinks (in order of their names) it serves, and gives it its share of the partitions as others leave them. `surplus` are those that it should give up, because
-- relays have come that have fewer. Relays that serve other sinks leave those of this one without the events of their partitions.
create or replace function share_events(p_relay uuid, p_sinks text[], p_lease_s double precision)
    returns table (partition smallint, surplus boolean, others_differ boolean)
    language plpgsql as $$
#variable_conflict use_column
declare
    until constant timestamptz := clock_timestamp() + make_interval(secs => p_lease_s);
    share int;
begin
    perform require_read_committed();
    perform set_config('synchronous_commit', 'off', true);
    perform pg_advisory_xact_lock(hashtext('event_relays'), 0);
    insert into event_relays (relay_id, sinks, lives_until) values (p_relay, p_sinks, until)
    on conflict (relay_id) do update set sinks = excluded.sinks, lives_until = excluded.lives_until;
    delete from event_relays where lives_until < clock_timestamp() and relay_id <> p_relay;
    select ceil(16.0 / count(*)) into share from event_relays;
    update event_partitions set held_until = until where relay_id = p_relay;
    update event_partitions set relay_id = p_relay, held_until = until
    where partition in (
        select partition from event_partitions where relay_id is null or held_until < clock_timestamp() order by partition
        limit greatest(0, share - (select count(*) from event_partitions where relay_id = p_relay))
    );
    return query
        select p.partition, row_number() over (order by p.partition) > share, exists (select from event_relays r where r.sinks <> p_sinks)
        from event_partitions p where p.relay_id = p_relay order by 1;
end
$$;

-- Leaves partitions to others; all of them, and itself, if a relay ends (`p_partitions` null).
create or replace function leave_events(p_relay uuid, p_partitions smallint[]) returns void language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    perform pg_advisory_xact_lock(hashtext('event_relays'), 0);
    update event_partitions set relay_id = null, held_until = '-infinity'
    where relay_id = p_relay and (p_partitions is null or partition = any (p_partitions));
    delete from event_relays where p_partitions is null and relay_id = p_relay;
end
$$;

-- Moves the first events of a relay's partitions from the outbox into the log, at most so many, and says how many those were. The positions of a
-- customer's events in the outbox rise with their sequence, and a later one is never there to be seen without those before it.
create or replace function log_events(p_relay uuid, p_limit int) returns int language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    held smallint[];
    moved int;
begin
    if not exists (select from outbox limit 1) then
        return 0;
    end if;
    -- A relay of the version before this log holds this lock for as long as it delivers from the outbox itself.
    if not pg_try_advisory_xact_lock_shared(hashtext('paynow.relay')) then
        return 0;
    end if;
    perform require_read_committed();
    perform set_config('synchronous_commit', 'off', true);
    select array_agg(h.partition) into held from (
        select p.partition from event_partitions p where p.relay_id = p_relay and p.held_until > clock_timestamp() order by p.partition for update
    ) h;
    with taken as materialized (
        delete from outbox where position = any (array(
            select f.position from unnest(held) h (partition) cross join lateral (
                select o.position from outbox o where event_partition(o.customer_id) = h.partition order by o.position limit p_limit
            ) f order by f.position limit p_limit
        )) returning *
    ), numbered as materialized (
        select t.*, event_partition(t.customer_id) as partition, row_number() over (partition by event_partition(t.customer_id) order by t.position) as n
        from taken t
    ), counted as (
        update event_partitions p set last_place = p.last_place + c.events
        from (select partition, count(*) as events from numbered group by 1) c
        where p.partition = c.partition returning p.partition, p.last_place - c.events as before
    ), logged as (
        insert into event_log (partition, place, customer_id, sequence, event_id, type, subject, occurred_at, data)
        select n.partition, c.before + n.n, n.customer_id, n.sequence, n.event_id, n.type, n.subject, n.occurred_at, n.data
        from numbered n join counted c using (partition)
    )
    select count(*) into moved from taken;
    return moved;
end
$$;

-- A sink is served from now on. One that was never served begins with the events that are logged after this.
create or replace function begin_sink(p_sink text) returns void language sql as $$
    insert into event_sinks (sink) values (p_sink) on conflict (sink) do update set served_at = clock_timestamp();
    insert into event_progress (sink, partition, place) select p_sink, p.partition, p.last_place from event_partitions p order by 2
    on conflict do nothing;
$$;

-- The next events of a sink in a relay's partitions, at most so many: of each partition from its place on, and of each its part.
create or replace function next_events(p_sink text, p_relay uuid, p_limit int)
    returns table (partition smallint, place bigint, event_id uuid, customer_id text, sequence bigint, type text, subject text, occurred_at timestamptz, data text)
    language sql stable as $$
    with behind as materialized (
        select h.partition, g.place, ceil(p_limit::numeric / count(*) over ())::int as part
        from event_partitions h
        join event_progress g on g.sink = p_sink and g.partition = h.partition
        join event_sinks s on s.sink = p_sink and s.disabled_at is null
        where h.relay_id = p_relay and h.held_until > clock_timestamp() and h.last_place > g.place
    )
    select e.partition, e.place, e.event_id, e.customer_id, e.sequence, e.type, e.subject, e.occurred_at, e.data::text
    from behind b
    cross join lateral (select * from event_log l where l.partition = b.partition and l.place > b.place order by l.place limit b.part) e
    order by e.partition, e.place
$$;

-- A sink has everything up to these places, but what is to be tried again. Late or repeated word changes nothing.
create or replace function events_delivered(p_sink text, p_partitions smallint[], p_places bigint[]) returns void language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update event_progress g set place = v.place
    from (select u.partition, max(u.place) as place from unnest(p_partitions, p_places) u (partition, place) group by 1) v
    where g.sink = p_sink and g.partition = v.partition and g.place < v.place;
end
$$;

-- Keeps with a sink's dead letters what it refused for good. Repeating it changes nothing.
create or replace function bury_events(p_sink text, p_partitions smallint[], p_places bigint[], p_errors text[]) returns void language sql as $$
    insert into dead_letters (sink, customer_id, sequence, event_id, type, subject, occurred_at, data, error)
    select p_sink, e.customer_id, e.sequence, e.event_id, e.type, e.subject, e.occurred_at, e.data, u.error
    from unnest(p_partitions, p_places, p_errors) u (partition, place, error) join event_log e using (partition, place)
    on conflict do nothing
$$;

-- The same of events that were tried by themselves.
create or replace function bury_retries(p_retries bigint[], p_errors text[]) returns void language sql as $$
    with buried as (
        delete from event_retries r using unnest(p_retries, p_errors) u (retry_id, error) where r.retry_id = u.retry_id returning r.*, u.error
    )
    insert into dead_letters (sink, customer_id, sequence, event_id, type, subject, occurred_at, data, error)
    select sink, customer_id, sequence, event_id, type, subject, occurred_at, data, error from buried
    on conflict do nothing
$$;

-- Lets events of the log be tried again by themselves, after seconds. Repeating it changes nothing.
create or replace function retry_events(p_sink text, p_partitions smallint[], p_places bigint[], p_waits_s double precision[]) returns void
    language sql as $$
    insert into event_retries (sink, due_at, attempts, partition, customer_id, sequence, event_id, type, subject, occurred_at, data)
    select p_sink, clock_timestamp() + make_interval(secs => u.wait_s), 1, e.partition, e.customer_id, e.sequence, e.event_id, e.type, e.subject,
        e.occurred_at, e.data
    from unnest(p_partitions, p_places, p_waits_s) u (partition, place, wait_s) join event_log e using (partition, place)
    order by e.partition, e.place
    on conflict do nothing;
$$;

-- What of a relay's partitions is due to be tried again, at most so many, what is due longest first.
create or replace function due_events(p_sink text, p_relay uuid, p_limit int)
    returns table (retry_id bigint, attempts int, event_id uuid, customer_id text, sequence bigint, type text, subject text, occurred_at timestamptz, data text)
    language sql stable as $$
    select r.retry_id, r.attempts, r.event_id, r.customer_id, r.sequence, r.type, r.subject, r.occurred_at, r.data::text
    from event_partitions h
    join event_sinks s on s.sink = p_sink and s.disabled_at is null
    cross join lateral (
        select * from event_retries x
        where x.sink = p_sink and x.partition = h.partition and x.due_at <= clock_timestamp() order by x.due_at, x.retry_id limit p_limit
    ) r
    where h.relay_id = p_relay and h.held_until > clock_timestamp()
    order by r.due_at, r.retry_id
    limit p_limit
$$;

-- Events were tried again: those without a wait are delivered, the others are due after theirs.
create or replace function events_retried(p_retries bigint[], p_waits_s double precision[]) returns void language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    delete from event_retries r using unnest(p_retries, p_waits_s) u (retry_id, wait_s) where r.retry_id = u.retry_id and u.wait_s is null;
    update event_retries r set attempts = r.attempts + 1, due_at = clock_timestamp() + make_interval(secs => u.wait_s)
    from unnest(p_retries, p_waits_s) u (retry_id, wait_s) where r.retry_id = u.retry_id and u.wait_s is not null;
end
$$;

-- Lets a sink have again, of the next logged events of a partition after a place (at most so many), those of a time. Says how far it looked, null at the
-- end, and how many those are.
create or replace function replay_events(p_sink text, p_from timestamptz, p_to timestamptz, p_partition smallint, p_after bigint, p_limit int)
    returns table (looked_to bigint, events bigint) language sql as $$
    with looked as materialized (
        select * from event_log e where e.partition = p_partition and e.place > p_after order by e.place limit p_limit
    ), again as (
        insert into event_retries (sink, partition, customer_id, sequence, event_id, type, subject, occurred_at, data)
        select p_sink, e.partition, e.customer_id, e.sequence, e.event_id, e.type, e.subject, e.occurred_at, e.data
        from looked e
        where e.occurred_at >= p_from and e.occurred_at < p_to
        order by e.place
        on conflict (sink, event_id) do update set due_at = least(event_retries.due_at, clock_timestamp())
        returning 1
    )
    select (select max(place) from looked), (select count(*) from again)
$$;

-- Lets a sink have its oldest dead letters again, at most so many of all (`p_events` null) or of these, and says how many those are.
create or replace function redeliver_events(p_sink text, p_events uuid[], p_limit int) returns bigint language sql as $$
    with taken as (
        delete from dead_letters where (sink, event_id) in (
            select d.sink, d.event_id from dead_letters d where d.sink = p_sink and (p_events is null or d.event_id = any (p_events))
            order by d.refused_at, d.event_id limit p_limit
        ) returning *
    ), again as (
        insert into event_retries (sink, partition, customer_id, sequence, event_id, type, subject, occurred_at, data)
        select sink, event_partition(customer_id), customer_id, sequence, event_id, type, subject, occurred_at, data
        from taken order by refused_at, customer_id, sequence
        on conflict (sink, event_id) do nothing
    )
    select count(*) from taken
$$;

-- Forgets a sink that is served no more, with what it was to get; its dead letters stay. Whether there was one.
create or replace function forget_sink(p_sink text) returns boolean language sql as $$
    delete from event_retries where sink = p_sink;
    with gone as (delete from event_sinks where sink = p_sink returning 1) select exists (select from gone)
$$;

-- Forgets logged events of a relay's partitions that are older than this, at most so many of each, but those that a sink lacks which was served within the
-- same time and was not disabled before it.
create or replace function forget_events(p_relay uuid, p_keep_s double precision, p_limit int) returns int language plpgsql as $$
declare
    since constant timestamptz := clock_timestamp() - make_interval(secs => p_keep_s);
    forgotten int;
begin
    perform set_config('synchronous_commit', 'off', true);
    with old as (
        select e.partition, e.place
        from event_partitions h
        cross join lateral (
            select min(g.place) as place from event_progress g join event_sinks s using (sink)
            where g.partition = h.partition and s.served_at >= since and coalesce(s.disabled_at, 'infinity') >= since
        ) had
        cross join lateral (
            select l.partition, l.place, l.occurred_at from event_log l where l.partition = h.partition order by l.place limit p_limit
        ) e
        where h.relay_id = p_relay and h.held_until > clock_timestamp() and e.place <= coalesce(had.place, h.last_place) and e.occurred_at < since
            and (select l.occurred_at from event_log l where l.partition = h.partition order by l.place limit 1) < since
    )
    delete from event_log l using old where l.partition = old.partition and l.place = old.place;
    get diagnostics forgotten = row_count;
    return forgotten;
end
$$;

-- How far each sink is behind: the events it lacks, the age of the oldest in seconds, those it gets by themselves later, its dead letters, and whether it is
-- disabled. Events that are not logged yet count for each.
create or replace function events_behind() returns table (sink text, events bigint, oldest_s double precision, retries bigint, dead bigint, disabled boolean)
    language sql stable as $$
    with unlogged as materialized (
        select count(*) as events, min(occurred_at) as oldest from (select occurred_at from outbox order by position limit 10000) o
    )
    select s.sink, u.events + coalesce(b.events, 0),
        coalesce(greatest(0, extract(epoch from clock_timestamp() - least(u.oldest, b.oldest))), 0)::float8,
        (select count(*) from (select from event_retries r where r.sink = s.sink limit 10000) r),
        (select count(*) from (select from dead_letters d where d.sink = s.sink limit 10000) d),
        s.disabled_at is not null
    from event_sinks s
    cross join unlogged u
    left join lateral (
        select sum(p.last_place - g.place)::bigint as events, min(f.occurred_at) as oldest
        from event_progress g
        join event_partitions p using (partition)
        left join lateral (
            select e.occurred_at from event_log e where e.partition = g.partition and e.place > g.place order by e.place limit 1
        ) f on true
        where g.sink = s.sink
    ) b on true
$$;
