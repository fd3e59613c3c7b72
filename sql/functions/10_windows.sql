-- Sliding windows over a total that grows: a ring of 45 cells remembers what the total was when each time bucket began, so that a window is one
-- subtraction, and a change within a bucket writes no cell at all. The cells are those of 7 buckets of 10 s (the last minute), 13 of 5 min (the
-- last hour) and 25 of 1 h (the last day); bucket b of a section of n cells lies in its cell b mod n. A ring without cells: nothing was there before.
-- A window sums its buckets, the current one included: it covers at least its name, and at most one bucket more. Sums of amounts stop at the
-- largest bigint instead of failing. Times are ticks, numbers of buckets of 10 s; what comes late counts in the newest bucket.

create or replace function window_tick(at timestamptz) returns int
    language sql stable as $$
    select floor(date_part('epoch', at) / 10)::int
$$;

-- One window of `size` buckets of `ticks` ticks, as seen at the tick `at`; `tick` is that of the last change.
create or replace function window_sum(cells anyarray, total anyelement, tick int, at int, ticks int, size int, base int) returns anyelement
    language sql immutable as $$
    select total - case
        when at / ticks - tick / ticks >= size then total
        else coalesce(cells[base + (greatest(at, tick) / ticks + 1) % size + 1], 0)
    end
$$;

-- The sums over the last minute, hour and day.
create or replace function windows_total(cells bigint[], total bigint, tick int, at int) returns bigint[]
    language sql immutable as $$
    select array[window_sum(cells, total, tick, at, 1, 7, 0), window_sum(cells, total, tick, at, 30, 13, 7), window_sum(cells, total, tick, at, 360, 25, 20)]
$$;

create or replace function windows_total(cells numeric[], total numeric, tick int, at int) returns bigint[]
    language sql immutable as $$
    select array[
        least(window_sum(cells, total, tick, at, 1, 7, 0), 9223372036854775807),
        least(window_sum(cells, total, tick, at, 30, 13, 7), 9223372036854775807),
        least(window_sum(cells, total, tick, at, 360, 25, 20), 9223372036854775807)
    ]::bigint[]
$$;

-- The ring when the tick `at` begins: every bucket that began since `tick`, the last change, began with `total`.
create or replace function windows_roll(cells anyarray, total anyelement, tick int, at int) returns anyarray
    language plpgsql immutable as $$
begin
    if at <= tick then
        return cells;
    end if;
    if at / 360 - tick / 360 >= 25 then
        return array_fill(total, array[45]);
    end if;
    if cardinality(cells) = 0 then
        cells := array_fill(total - total, array[45]);
    end if;
    for b in greatest(tick, at - 7) + 1 .. at loop
        cells[b % 7 + 1] := total;
    end loop;
    for b in greatest(tick / 30, at / 30 - 13) + 1 .. at / 30 loop
        cells[b % 13 + 8] := total;
    end loop;
    for b in greatest(tick / 360, at / 360 - 25) + 1 .. at / 360 loop
        cells[b % 25 + 21] := total;
    end loop;
    return cells;
end
$$;

-- The same where nothing but a day is asked for: 25 cells of 1 h, to be read by `window_sum(cells, total, tick, at, 360, 25, 0)`.
create or replace function hours_roll(cells bigint[], total bigint, tick int, at int) returns bigint[]
    language plpgsql immutable as $$
begin
    if at / 360 - tick / 360 >= 25 then
        return array_fill(total, array[25]);
    end if;
    for b in tick / 360 + 1 .. at / 360 loop
        cells[b % 25 + 1] := total;
    end loop;
    return cells;
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
