-- no-transaction
-- Cases are worked by people: who holds one, what it came to, by when it is due, and a history that nobody can change. An approved case reserves
-- the money of its payment, whose decision stays `review`. Lists keep who changed them. Payments are locked before cases, as a settle does; rows are
-- looked through and indexes built beside running services, which is why this is not one transaction, and why each part may be run again; a part
-- locks one table, so that payments go on while it waits for another.
do $$ begin
    create type case_label as enum ('confirmed_fraud', 'false_positive', 'unclear');
    create type case_act as enum ('claimed', 'unclaimed', 'approved', 'declined', 'noted', 'labelled');
exception when duplicate_object then null; end $$;
-- then
alter table payments drop constraint if exists payments_only_allowed_reserve, drop constraint if exists payments_reserve_if_allowed_or_approved;
alter table payments add constraint payments_reserve_if_allowed_or_approved check (
    (decision <> 'allow' or reservation is not null) and (decision <> 'block' or reservation is null)
    and (reservation is not null) = (reserved_until is not null)
) not valid;
-- then
-- The defaults serve cases that were opened before, and processes of before that still open some.
alter table cases
    add column if not exists priority smallint not null default 0,
    add column if not exists due_at timestamptz not null default now() + interval '24 hours',
    add column if not exists holder text,
    add column if not exists claimed_at timestamptz,
    add column if not exists label case_label,
    add column if not exists resolved_by text,
    add column if not exists resolved_at timestamptz,
    add column if not exists history_seq int not null default 0;
alter table cases drop constraint if exists cases_claimed_by_their_holder, drop constraint if exists cases_resolved_by_somebody;
alter table cases
    add constraint cases_claimed_by_their_holder check (
        (status = 'claimed') = (holder is not null) and (holder is not null) = (claimed_at is not null)
    ) not valid,
    add constraint cases_resolved_by_somebody check (
        (status in ('approved', 'declined')) = (resolved_by is not null) and (resolved_by is not null) = (resolved_at is not null)
    ) not valid;
comment on column cases.priority is 'The higher the more urgent; told when the case is opened, as its due time is.';
comment on column cases.holder is 'The API key that has claimed it.';

-- Append-only: who did what to a case, numbered from one. The last entries say what the case says.
create table if not exists case_history (
    customer_id party_id not null,
    case_id uuid not null,
    seq int not null check (seq > 0),
    act case_act not null,
    actor text not null check (actor <> ''),
    note text check (char_length(note) between 1 and 2000),
    label case_label,
    acted_at timestamptz not null default clock_timestamp(),
    primary key (customer_id, case_id, seq),
    foreign key (customer_id, case_id) references cases,
    constraint case_history_says_what check ((act = 'noted') = (note is not null) and (act = 'labelled') = (label is not null))
);
create or replace trigger case_history_append_only before update or delete or truncate on case_history
    for each statement execute function refuse_change();
-- then
alter table lists add column if not exists author text;
comment on column lists.author is 'The API key or the operating system''s user who wrote it; not known of what is older.';

-- Append-only: what was ever put on the lists, renewed and taken off.
create table if not exists list_history (
    position bigint generated always as identity primary key,
    kind listed_kind not null,
    subject party_id not null,
    listing listing not null,
    removed boolean not null,
    reason text,
    expires_at timestamptz,
    author text not null,
    changed_at timestamptz not null default clock_timestamp(),
    constraint list_history_reason_unless_removed check (removed = (reason is null))
);
create or replace trigger list_history_append_only before update or delete or truncate on list_history
    for each statement execute function refuse_change();
-- then
alter table payments validate constraint payments_reserve_if_allowed_or_approved;
-- then
alter table cases validate constraint cases_claimed_by_their_holder, validate constraint cases_resolved_by_somebody;
-- then
drop index concurrently if exists cases_queue;
-- then
-- Read by the queue in the order of urgency, and by what counts it.
create index concurrently cases_queue on cases ((-priority), due_at, case_id) where status in ('open', 'claimed');
-- then
drop index concurrently if exists cases_by_status;
-- then
-- Read by the page of one status, newest first.
create index concurrently cases_by_status on cases (status, case_id);
-- then
drop index concurrently if exists cases_held;
-- then
-- Read by the page of what one key holds.
create index concurrently cases_held on cases (holder, case_id) where holder is not null;
-- then
drop index concurrently if exists cases_labelled;
-- then
-- Read by the page of one label.
create index concurrently cases_labelled on cases (label, case_id) where label is not null;
