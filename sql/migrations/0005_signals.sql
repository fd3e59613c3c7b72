-- no-transaction
-- What more signals are read from. Each part locks one table, for as long as it takes to note a column: no row is written anew.
-- Customers who are there already are taken to have come now.
alter table attempts add column if not exists first_at timestamptz not null default now();
comment on column attempts.first_at is 'The first attempt in this currency.';
-- then
alter table accounts
    add column if not exists usual_count int not null default 0,
    add column if not exists usual_mean double precision not null default 0,
    add column if not exists usual_variance double precision not null default 0;
comment on column accounts.usual_count is 'How many allowed amounts are in the usual ones (functions/15_usual.sql), which are kept since this column is there.';
-- then
alter table customers
    add column if not exists failed_count bigint not null default 0,
    add column if not exists failed_tick int not null default 0,
    add column if not exists failed_hours bigint[] not null default '{}';
comment on column customers.failed_count is 'Payments blocked since this column is there, in all; beside it those of a day in hours (see functions/10_windows.sql).';
-- then
-- Facts about a payee over all customers, counted behind the payments (functions/65_payees.sql). One row a payee, and one for each customer who paid it
-- lately, with the hour of the last payment.
create table if not exists payees (
    payee_id party_id primary key,
    first_seen_at timestamptz not null,
    hour int not null,
    counts int[] not null check (cardinality(counts) = 25),
    customers int not null
) with (fillfactor = 50);
comment on column payees.customers is 'The sum of the counts: so long as the hour lasts it need not be added up.';
create table if not exists payee_customers (
    payee_id party_id not null,
    customer_id party_id not null,
    hour int not null,
    primary key (payee_id, customer_id)
);
-- Read by what forgets those whose hour is long past.
create index if not exists payee_customers_hour on payee_customers (hour);

-- How far that counting has come: to the payment read last, in the order of settled_by and payment_id. It is there before anything is settled by these.
-- One row.
create table if not exists payee_position (
    only_row boolean primary key default true check (only_row),
    read_to xid8 not null default pg_snapshot_xmin(pg_current_snapshot()),
    read_to_payment uuid not null default '00000000-0000-0000-0000-000000000000'
);
insert into payee_position default values on conflict do nothing;
-- then
-- The transaction that settled a payment: who follows settled payments reads what is behind every unfinished transaction, and so misses none, in
-- whatever order they end. Payments of the time before have none. The default comes in a step of its own, so that no row is written anew.
alter table payments add column if not exists settled_by xid8;
alter table payments alter column settled_by set default pg_current_xact_id();
-- then
drop index concurrently if exists payments_settled;
-- then
-- Read by who follows settled payments.
create index concurrently payments_settled on payments (settled_by, payment_id) where settled_by is not null;
