-- Sliding windows in a fixed array of 45 cells: 7 of 10 s (the last minute), 13 of 5 min (the last hour), 25 of 1 h (the last day).
-- Bucket b of a section of n cells lies in its cell b mod n. A window sums its buckets, the current one included: it covers at least its name,
-- and at most one bucket more. Sums stop at the largest bigint instead of failing.

create or replace function windows_add(cells bigint[], as_of timestamptz, at timestamptz, change bigint) returns bigint[]
    language plpgsql immutable strict as $$
declare
    widths constant int[] := array[10, 300, 3600];
    sizes constant int[] := array[7, 13, 25];
    base int := 0;
    bucket bigint;
    newest bigint;
    cell int;
begin
    for s in 1..3 loop
        bucket := floor(date_part('epoch', at) / widths[s]);
        newest := floor(date_part('epoch', as_of) / widths[s]);
        for b in greatest(newest, bucket - sizes[s]) + 1 .. bucket loop      -- buckets in which nothing happened
            cells[base + b % sizes[s] + 1] := 0;
        end loop;
        if bucket > newest - sizes[s] then
            cell := base + bucket % sizes[s] + 1;
            cells[cell] := case when cells[cell] > 9223372036854775807 - change then 9223372036854775807 else cells[cell] + change end;
        end if;
        base := base + sizes[s];
    end loop;
    return cells;
end
$$;

-- A window array in which only this happened.
create or replace function windows_of(at timestamptz, change bigint) returns bigint[]
    language sql immutable strict as $$
    select windows_add(array_fill(0::bigint, array[45]), at, at, change)
$$;

-- What the bucket of the moment holds: of an array made by windows_of, the change it was made with.
create or replace function windows_latest(cells bigint[], as_of timestamptz) returns bigint
    language sql immutable strict as $$
    select cells[(floor(date_part('epoch', as_of) / 10)::bigint % 7)::int + 1]
$$;

-- The sums over the last minute, hour and day.
create or replace function windows_total(cells bigint[], as_of timestamptz, at timestamptz) returns bigint[]
    language plpgsql immutable strict as $$
declare
    widths constant int[] := array[10, 300, 3600];
    sizes constant int[] := array[7, 13, 25];
    base int := 0;
    newest bigint;
    bucket bigint;
    total numeric;
    totals bigint[] := array[0, 0, 0];
begin
    for s in 1..3 loop
        newest := floor(date_part('epoch', as_of) / widths[s]);
        bucket := greatest(newest, floor(date_part('epoch', at) / widths[s])::bigint);
        total := 0;
        for b in bucket - sizes[s] + 1 .. newest loop
            total := total + cells[base + b % sizes[s] + 1];
        end loop;
        totals[s] := least(total, 9223372036854775807);
        base := base + sizes[s];
    end loop;
    return totals;
end
$$;

-- Lock and read in two statements overspends at any isolation but READ COMMITTED, whatever the role's default says.
create or replace function require_read_committed() returns void
    language plpgsql stable as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'isolation is %, it must be read committed', current_setting('transaction_isolation')
            using errcode = 'invalid_transaction_state';
    end if;
end
$$;
