-- Policies that read the decisions behind the active one, and how far each has come: beyond the payment read last, in the order of settled_by and
-- payment_id. A policy begins with what is settled from then on.
create table shadow_policies (
    version text primary key,
    body text not null check (body <> ''),
    counted_from timestamptz not null default clock_timestamp(),
    read_to xid8 not null default pg_snapshot_xmin(pg_current_snapshot()),
    read_to_payment uuid not null default '00000000-0000-0000-0000-000000000000',
    decisions bigint not null default 0,
    unreadable bigint not null default 0
);
-- What they came to, beside what the policy decided that was the active one at the time.
create table shadow_verdicts (
    version text not null references shadow_policies,
    policy_version text not null,
    recorded decision not null,
    candidate decision not null,
    currency currency_code not null,
    decisions bigint not null,
    unsure bigint not null,
    amount_minor numeric not null,
    primary key (version, policy_version, recorded, candidate, currency)
);
create table shadow_rules (
    version text not null references shadow_policies,
    rule text not null,
    place int not null,
    fired bigint not null default 0,
    unknown bigint not null default 0,
    primary key (version, rule)
);
