-- How the decisions of the active policy have fallen lately, and each time that their shares left their band or came back: what the policy guard
-- counts and tells (functions/75_policy_guard.sql).

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
    decisions bigint not null check (decisions > 0),
    reviews bigint not null check (reviews >= 0),
    blocks bigint not null check (blocks >= 0),
    at timestamptz not null default clock_timestamp()
);
create trigger policy_band_crossings_append_only before update or delete or truncate on policy_band_crossings
    for each statement execute function refuse_change();
