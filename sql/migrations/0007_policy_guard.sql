-- The policy guard (functions/75_policy_guard.sql): how the decisions of the active policy have fallen lately, and each time that their shares left
-- their band or came back. And the second pair of eyes: policies that were proposed, and what became of that.

-- The decisions of one activation in slices of time, by when their payments began. A slice is counted again while payments of it may still be
-- decided; what has left the window, or was counted of another activation, is removed. It can be lost: it is counted again then.
create table policy_slices (
    activation bigint not null,
    slice bigint not null,
    decisions bigint not null,
    reviews bigint not null,
    blocks bigint not null,
    counted_at timestamptz not null,
    primary key (activation, slice)
) with (fillfactor = 50);

-- Each time that the shares left their band under an activation, or were back in it; the last row says how things stand.
create table policy_band_crossings (
    position bigint generated always as identity primary key,
    event_id uuid not null unique,
    activation bigint not null references policy_activations,
    outside boolean not null,
    rollback text check (rollback in ('done', 'not_wanted', 'not_an_activation', 'late', 'none_good', 'does_not_fit')),
    decisions bigint not null check (decisions > 0),
    reviews bigint not null check (reviews >= 0),
    blocks bigint not null check (blocks >= 0),
    at timestamptz not null default clock_timestamp(),
    constraint policy_band_crossings_rollback_when_left check (outside = (rollback is not null))
);
-- The crossings under an activation, the last of them first.
create index policy_band_crossings_activation on policy_band_crossings (activation, position);
create trigger policy_band_crossings_append_only before update or delete or truncate on policy_band_crossings
    for each statement execute function refuse_change();

-- When the shares were last seen outside their band, under an activation of which that was told.
create table policy_band_outside (
    activation bigint primary key references policy_activations,
    seen_at timestamptz not null
) with (fillfactor = 50);

-- The second pair of eyes (functions/76_policy_proposals.sql). What was proposed to be the active policy, by which API key, in place of which
-- activation. A text that nobody approves is no policy: it stands here only.
create table policy_proposals (
    position bigint generated always as identity primary key,
    version text not null check (version ~ '^[0-9a-f]{32}$'),
    body text not null,
    author text not null check (author <> ''),
    activation bigint references policy_activations,
    at timestamptz not null default clock_timestamp(),
    unique (position, author)
);
-- Read by the last proposal of a version.
create index policy_proposals_version on policy_proposals (version, position);
create trigger policy_proposals_append_only before update or delete or truncate on policy_proposals
    for each statement execute function refuse_change();

-- What became of a proposal, once: approved by another key than the one that proposed it, or refused by any.
create table policy_verdicts (
    position bigint generated always as identity primary key,
    proposal bigint not null unique,
    proposer text not null,
    verdict text not null check (verdict in ('approved', 'refused')),
    author text not null check (author <> ''),
    at timestamptz not null default clock_timestamp(),
    foreign key (proposal, proposer) references policy_proposals (position, author),
    constraint policy_verdicts_approved_by_another check (verdict = 'refused' or author <> proposer)
);
create trigger policy_verdicts_append_only before update or delete or truncate on policy_verdicts
    for each statement execute function refuse_change();
