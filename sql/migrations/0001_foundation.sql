-- The whole first schema. Every row of a customer starts with customer_id in its key, so that tables can be partitioned or distributed by
-- customer, and every hot statement touches one customer's rows. Amounts are bigint minor units of an ISO 4217 currency.
--
-- Foreign keys are checked row by row, each by a query of its own: the three that a settle would have to check took a quarter of its time. It
-- cannot break them, for it takes what they would refer to from rows that it holds locked (customers, accounts) or that nobody ever removes
-- (policies); the audit looks at them (payments_lead_somewhere, accounts_equal_ledger).

create type decision as enum ('allow', 'review', 'block');
create type key_state as enum ('processing', 'decided');
create type reservation_state as enum ('held', 'captured', 'released', 'expired');
create type entry_kind as enum ('credit', 'reserve', 'capture', 'release', 'expire', 'adjust');
create type case_status as enum ('open', 'claimed', 'approved', 'declined');
create type listing as enum ('allow', 'block');
create type listed_kind as enum ('customer', 'payee');

-- The length stands beside the class: a regular expression that counts up to 64 costs 20 times as much, and one that counts up to 255 costs 150 times.
create domain party_id as text check (octet_length(value) <= 64 and value ~ '^[A-Za-z0-9_.:-]+$');
create domain currency_code as text check (octet_length(value) = 3 and value ~ '^[A-Z]+$');
create domain amount_minor as bigint check (value > 0);

-- One row a customer, locked by every settle: accounts, ledger and event sequence of a customer change only under it.
create table customers (
    customer_id party_id primary key,
    event_seq bigint not null default 0 check (event_seq >= 0)
) with (fillfactor = 50);
comment on column customers.event_seq is 'The number of events of this customer so far; each event carries its own.';

-- Money that may be spent and money that is promised. Both are the sums of the ledger's entries. Beside it what was ever allowed, in all and in
-- time buckets (see functions/10_windows.sql): it changes with the same update.
create table accounts (
    customer_id party_id not null references customers,
    currency currency_code not null,
    available bigint not null default 0 check (available >= 0),
    reserved bigint not null default 0 check (reserved >= 0),
    opening bigint not null default 0 check (opening >= 0),
    entry_seq bigint not null default 0 check (entry_seq >= 0),
    allowed_count bigint not null default 0,
    allowed_tick int not null default 0,
    allowed_sum numeric not null default 0,
    allowed_sums numeric[] not null default '{}',
    primary key (customer_id, currency)
) with (fillfactor = 50);
comment on column accounts.opening is 'The opening amount of the last import, so that importing the same file again changes nothing.';
comment on column accounts.allowed_sum is 'All that was ever allowed, also what was released since: the signals count it.';

-- Append-only. A kind says which way the money goes, and no entry can go another way.
create table ledger_entries (
    customer_id party_id not null,
    currency currency_code not null,
    entry_seq bigint not null check (entry_seq > 0),
    kind entry_kind not null,
    available_change bigint not null,
    reserved_change bigint not null,
    payment_id uuid,
    recorded_at timestamptz not null default now(),
    primary key (customer_id, currency, entry_seq),
    constraint ledger_entries_kind_says_the_way check (
        case kind
            when 'credit' then available_change > 0 and reserved_change = 0
            when 'adjust' then available_change <> 0 and reserved_change = 0
            when 'reserve' then available_change < 0 and reserved_change = -available_change
            when 'capture' then available_change = 0 and reserved_change < 0
            else reserved_change < 0 and available_change = -reserved_change
        end
    ),
    constraint ledger_entries_payment_named check ((kind in ('credit', 'adjust')) = (payment_id is null))
);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'restrict_violation';
end
$$;

create trigger ledger_entries_append_only before update or delete on ledger_entries
    for each statement execute function refuse_change();

-- Every policy that was ever active, by the hash of its text: any decision can be run again.
create table policies (
    version text primary key check (version ~ '^[0-9a-f]{32}$'),
    body text not null,
    author text not null,
    added_at timestamptz not null default now(),
    active boolean not null default false
);
create unique index policies_one_active on policies (active) where active;

-- The claim on an idempotency key, and all that is needed to finish it if its process dies. Request columns are emptied when it is decided.
create table idempotency_keys (
    customer_id party_id not null,
    key text not null check (octet_length(key) <= 255 and key ~ '^[ -~]+$'),
    fingerprint bytea not null check (octet_length(fingerprint) = 32),
    payment_id uuid not null,
    state key_state not null default 'processing',
    claim_token uuid not null,
    claimed_at timestamptz not null default now(),
    lease_until timestamptz,
    payee_id party_id,
    amount_minor amount_minor,
    currency currency_code,
    request_id text,
    policy_version text,
    primary key (customer_id, key),
    constraint idempotency_keys_processing_can_be_finished check (
        (state = 'processing') = (lease_until is not null)
        and (state = 'processing') = (num_nonnulls(payee_id, amount_minor, currency, request_id, policy_version) = 5)
        and (state = 'decided') = (num_nonnulls(payee_id, amount_minor, currency, request_id, policy_version) = 0)
    )
) with (fillfactor = 70);
-- Read by the completer: claims whose process died.
create index idempotency_keys_lease on idempotency_keys (lease_until) where state = 'processing';
-- Read by the retention of keys; a block range index costs next to nothing on rows that arrive in order of time.
create index idempotency_keys_claimed_at on idempotency_keys using brin (claimed_at);

-- The decisions. The answer is kept as it was sent, byte for byte: replays, the trace and running the decision again all read it.
create table payments (
    customer_id party_id not null,
    payment_id uuid not null,
    payee_id party_id not null,
    amount_minor amount_minor not null,
    currency currency_code not null,
    decision decision not null,
    degraded boolean not null,
    policy_version text not null,
    reservation reservation_state,
    reserved_until timestamptz,
    reservation_ended_at timestamptz,
    case_pending boolean not null default false,
    decided_at timestamptz not null,
    answer text not null check (answer <> ''),
    primary key (customer_id, payment_id),
    constraint payments_only_allowed_reserve check (
        (decision = 'allow') = (reservation is not null) and (reservation is not null) = (reserved_until is not null)
    ),
    constraint payments_ended_when check ((reservation_ended_at is not null) = (reservation is not null and reservation <> 'held')),
    constraint payments_only_reviews_wait_for_a_case check (not case_pending or decision = 'review')
) with (toast_tuple_target = 4080);
comment on column payments.answer is 'Up to 4 KB it is left as it is: compressing one of 3 KB costs as much as three rows of the settle.';
-- Read by the routes that name only the payment, and by the page over all customers, newest first.
create unique index payments_by_id on payments (payment_id);
-- Read by the page of reviews or blocks, which are few.
create index payments_not_allowed on payments (decision, payment_id) where decision <> 'allow';
-- Read by the expiry of reservations that nobody ended.
create index payments_held on payments (reserved_until) where reservation = 'held';
-- Read by the completer, which goes on trying to open the cases that createCase could not.
create index payments_case_pending on payments (payment_id) where case_pending;

-- Attempts and asked amounts, in all and in time buckets (see functions/10_windows.sql), written by the claim: a row of its own, so that a claim
-- never waits behind a settle's flush.
create table attempts (
    customer_id party_id not null,
    currency currency_code not null,
    tick int not null,
    total_count bigint not null,
    total_amount numeric not null,
    counts bigint[] not null default '{}',
    amounts numeric[] not null default '{}',
    primary key (customer_id, currency)
) with (fillfactor = 50);

-- The payees to whom a payment of the customer was ever allowed.
create table known_payees (
    customer_id party_id not null,
    payee_id party_id not null,
    first_allowed_at timestamptz not null default now(),
    primary key (customer_id, payee_id)
);

create table lists (
    kind listed_kind not null,
    subject party_id not null,
    listing listing not null,
    reason text not null,
    added_at timestamptz not null default now(),
    expires_at timestamptz,
    primary key (kind, subject, listing)
);

-- Token buckets: the moment at which a bucket is full again (generic cell rate algorithm).
create table rate_limits (
    subject text not null,
    kind text not null check (kind in ('customer', 'api_key')),
    full_at timestamptz not null,
    granted integer not null default 0,
    primary key (subject, kind)
) with (fillfactor = 50);
comment on column rate_limits.granted is 'How many of the last asks were granted: lets the one statement that takes tokens say so.';

-- Reviews for people, at most one a payment.
create table cases (
    customer_id party_id not null,
    case_id uuid not null,
    payment_id uuid not null,
    status case_status not null default 'open',
    amount_minor amount_minor not null,
    currency currency_code not null,
    reasons json not null,
    opened_at timestamptz not null default now(),
    primary key (customer_id, case_id),
    unique (customer_id, payment_id),
    foreign key (customer_id, payment_id) references payments
);
-- Read by the routes that name only the case, and by the queue, newest first.
create unique index cases_by_id on cases (case_id);

-- Events that were not delivered yet. Positions of one customer rise with its sequence, because both are given under the customer's lock.
create table outbox (
    position bigint generated always as identity primary key,
    customer_id party_id not null,
    sequence bigint not null check (sequence > 0),
    event_id uuid not null,
    type text not null,
    subject text not null,
    occurred_at timestamptz not null default clock_timestamp(),
    data json not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Events that a sink refused for good.
create table dead_letters (
    sink text not null,
    event_id uuid not null,
    customer_id party_id not null,
    sequence bigint not null,
    type text not null,
    subject text not null,
    occurred_at timestamptz not null,
    data json not null,
    error text not null,
    refused_at timestamptz not null default now(),
    primary key (sink, event_id)
);

create table api_keys (
    key_id text primary key check (key_id ~ '^[0-9a-z]{12}$'),
    name text not null check (name <> ''),
    secret_sha256 bytea not null check (octet_length(secret_sha256) = 32),
    scopes text[] not null check (cardinality(scopes) > 0),
    rate_per_s double precision check (rate_per_s > 0),
    rate_burst integer check (rate_burst > 0),
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    check ((rate_per_s is null) = (rate_burst is null))
);
