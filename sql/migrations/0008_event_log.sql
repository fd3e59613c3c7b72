-- Events in the order in which every sink gets them: the relay moves them here from the outbox, numbering those of a partition from one without gaps.
-- All events of a customer are in one partition, in their sequence. They stay for as long as settings say, to be told again.
create table event_log (
    partition smallint not null,
    place bigint not null check (place > 0),
    customer_id party_id not null,
    sequence bigint not null,
    event_id uuid not null,
    type text not null,
    subject text not null,
    occurred_at timestamptz not null,
    data json not null,
    primary key (partition, place)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 200000);

-- The relays that live, and the partitions each has for now.
create table event_relays (
    relay_id uuid primary key,
    sinks text[] not null,
    lives_until timestamptz not null
);
create table event_partitions (
    partition smallint primary key,
    last_place bigint not null default 0,
    relay_id uuid,
    held_until timestamptz not null default '-infinity'
) with (fillfactor = 20);
insert into event_partitions (partition) select n from generate_series(0, 15) u (n);

-- What each sink has: all events of a partition up to a place, but those that are to be tried again by themselves.
create table event_sinks (
    sink text primary key,
    served_at timestamptz not null default clock_timestamp(),
    disabled_at timestamptz,
    disabled_because text
) with (fillfactor = 50);
create table event_progress (
    sink text not null references event_sinks on delete cascade,
    partition smallint not null references event_partitions,
    place bigint not null,
    primary key (sink, partition)
) with (fillfactor = 20);

-- Events that a sink gets by themselves: what failed while others went on, and what somebody wants told again.
create table event_retries (
    retry_id bigint generated always as identity primary key,
    sink text not null,
    due_at timestamptz not null default clock_timestamp(),
    attempts int not null default 0,
    partition smallint not null,
    customer_id party_id not null,
    sequence bigint not null,
    event_id uuid not null,
    type text not null,
    subject text not null,
    occurred_at timestamptz not null,
    data json not null,
    unique (sink, event_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
create index event_retries_due on event_retries (sink, partition, due_at, retry_id);
create index if not exists dead_letters_by_time on dead_letters (sink, refused_at, event_id);

-- The partition of a customer: the first hexadecimal digit of the event's partition key.
create or replace function event_partition(p_customer text) returns smallint language sql immutable strict as $$
    select (get_byte(sha256(p_customer::bytea), 0) >> 4)::smallint
$$;
create index if not exists outbox_by_partition on outbox (event_partition(customer_id), position);
