-- name: put_listing
-- Puts a customer or payee on a list, or renews its reason and expiry, with its entry in the history; the same again changes nothing.
with put as (
    insert into lists (kind, subject, listing, reason, expires_at, author)
    values (%(kind)s::listed_kind, %(subject)s, %(listing)s::listing, %(reason)s, %(expires_at)s, %(author)s)
    on conflict (kind, subject, listing) do update
        set reason = excluded.reason, expires_at = excluded.expires_at, author = excluded.author, added_at = now()
        where (lists.reason, lists.expires_at) is distinct from (excluded.reason, excluded.expires_at)
    returning kind, subject, listing, reason, author, added_at, expires_at
), noted as (
    insert into list_history (kind, subject, listing, removed, reason, expires_at, author)
    select kind, subject, listing, false, reason, expires_at, author from put
)
select kind::text, subject, listing::text, reason, author, added_at, expires_at from put

-- name: listing
-- One entry.
select kind::text, subject, listing::text, reason, author, added_at, expires_at from lists
where kind = %(kind)s::listed_kind and subject = %(subject)s and listing = %(listing)s::listing

-- name: remove_listing
-- Takes a customer or payee off a list, with its entry in the history.
with gone as (
    delete from lists where kind = %(kind)s::listed_kind and subject = %(subject)s and listing = %(listing)s::listing returning kind, subject, listing
)
insert into list_history (kind, subject, listing, removed, author) select kind, subject, listing, true, %(author)s from gone
returning 1

-- name: listings
-- Everything on the lists.
select kind::text, subject, listing::text, reason, author, added_at, expires_at from lists order by kind, listing, subject

-- name: listings_page
-- A page of the lists after an entry; filters that are null do not filter.
select kind::text, subject, listing::text, reason, author, added_at, expires_at from lists
where (%(kind)s::text is null or kind = %(kind)s::listed_kind)
    and (%(subject)s::text is null or subject = %(subject)s)
    and (%(listing)s::text is null or listing = %(listing)s::listing)
    and (%(after_kind)s::text is null
        or (kind, subject, listing) > (%(after_kind)s::listed_kind, %(after_subject)s::text::party_id, %(after_listing)s::listing))
order by kind, subject, listing
limit %(limit)s

-- name: take_listing_import_turn
-- One import of lists at a time, until its transaction ends.
select pg_advisory_xact_lock(hashtext('paynow.lists.import'))

-- name: make_listing
-- The lines of the file, out of the way of everything else.
create temporary table listing_lines (
    line bigint not null, kind listed_kind not null, subject text not null, listing listing not null, reason text not null, expires_at timestamptz
) on commit drop

-- name: copy_listing
-- Takes a chunk of lines.
copy listing_lines (line, kind, subject, listing, reason, expires_at) from stdin with (format csv)

-- name: listing_doubles
-- Lines whose entry stands on an earlier line already, the first of them, and how many there are.
select line, concat('the entry stands on line ', first_line, ' already'), count(*) over ()
from (select line, min(line) over (partition by kind, subject, listing) as first_line from listing_lines) seen
where line <> first_line
order by line
limit %s

-- name: listing_counts
-- How many lines come to what: `added`, `renewed` or `unchanged`.
select case when l.kind is null then 'added' when (l.reason, l.expires_at) is distinct from (n.reason, n.expires_at) then 'renewed' else 'unchanged' end,
    count(*)
from listing_lines n
left join lists l on l.kind = n.kind and l.subject = n.subject and l.listing = n.listing
group by 1

-- name: carry_out_listing
-- Puts the lines on the lists, as `put_listing` does one, in one order.
with put as (
    insert into lists (kind, subject, listing, reason, expires_at, author)
    select kind, subject, listing, reason, expires_at, %(author)s from listing_lines order by kind, subject, listing
    on conflict (kind, subject, listing) do update
        set reason = excluded.reason, expires_at = excluded.expires_at, author = excluded.author, added_at = now()
        where (lists.reason, lists.expires_at) is distinct from (excluded.reason, excluded.expires_at)
    returning kind, subject, listing, reason, author, expires_at
)
insert into list_history (kind, subject, listing, removed, reason, expires_at, author)
select kind, subject, listing, false, reason, expires_at, author from put
