-- How far the retention of keys has gone, whatever it is set to now: what was claimed before may have no key any more. One row.
create table retention (
    only_row boolean primary key default true check (only_row),
    keys_forgotten_before timestamptz not null default '-infinity'
);
insert into retention default values;
