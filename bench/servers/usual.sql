-- The tables of usual.py, as one would write them first: keys, indexes for what is read, constraints that keep money right.
create table accounts (
    customer_id text not null, currency text not null,
    available bigint not null check (available >= 0), reserved bigint not null default 0 check (reserved >= 0),
    primary key (customer_id, currency)
);
create table idempotency_keys (
    customer_id text not null, key text not null, fingerprint bytea not null, answer bytea, created_at timestamptz not null default now(),
    primary key (customer_id, key)
);
create table payments (
    id uuid primary key, customer_id text not null, payee_id text not null, amount_minor bigint not null check (amount_minor > 0),
    currency text not null, decision text not null, reasons jsonb not null, trace jsonb not null, created_at timestamptz not null default now()
);
create index payments_customer_created on payments (customer_id, created_at);
create index payments_customer_payee on payments (customer_id, payee_id);
create table ledger_entries (
    id bigint generated always as identity primary key, customer_id text not null, currency text not null, payment_id uuid not null references payments,
    available_change bigint not null, reserved_change bigint not null, created_at timestamptz not null default now(),
    foreign key (customer_id, currency) references accounts
);
create table outbox (
    id bigint generated always as identity primary key, type text not null, payload jsonb not null, created_at timestamptz not null default now()
);
