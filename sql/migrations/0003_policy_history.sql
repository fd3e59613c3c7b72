-- What was made the active policy, when, by whom and why: the history that `paynow policy history` shows and by which
-- `paynow policy rollback` finds the one before.
create table policy_activations (
    position bigint generated always as identity primary key,
    version text not null references policies,
    cause text not null check (cause in ('seeded', 'activated', 'rolled_back')),
    author text not null,
    at timestamptz not null default clock_timestamp()
);
create trigger policy_activations_append_only before update or delete or truncate on policy_activations
    for each statement execute function refuse_change();

-- The ledger can be emptied as little as it can be changed.
create or replace trigger ledger_entries_append_only before update or delete or truncate on ledger_entries
    for each statement execute function refuse_change();

-- Of the time before this table only the active policy is known to have been activated.
insert into policy_activations (version, cause, author, at) select version, 'activated', author, added_at from policies where active;
