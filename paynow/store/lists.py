"""The allow and block lists as they are kept: read by the signals of the next payment, changed one by one or by a file, all or nothing."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import islice

import psycopg2.extensions as pg

from paynow.errors import StoreUnavailable
from paynow.resources import folder
from paynow.store.imports import CHUNK_ROWS, FAULTS_KEPT_MAX, LOCK_TIMEOUT, ImportRefused
from paynow.store.pool import Pool
from paynow.store.queries import load_queries
from paynow.store.records import Listing, ListingLine
from paynow.store.session import interruptible, session


class Lists:
    """Customers and payees on the `allow` or the `block` list. Every change names its author and stands in the history."""

    def __init__(self, pool: Pool, queries: dict[str, str]) -> None:
        self._pool = pool
        self._queries = queries

    async def put(self, kind: str, subject: str, listing: str, *, reason: str, expires_at: datetime | None, author: str) -> Listing:
        """Puts a `customer` or `payee` on a list, or renews its reason and expiry; the entry as it is then. The same again changes nothing.

        Raises `StoreUnavailable` if somebody took it off meanwhile, and the pool's refusals.
        """
        named = {"kind": kind, "subject": subject, "listing": listing, "reason": reason, "expires_at": expires_at, "author": author}
        # Nothing was changed: it may just have been put there by somebody whom only a new statement sees.
        rows = await self._pool.call("put_listing", self._queries["put_listing"], named) or await self._pool.read(
            "listing", self._queries["listing"], named
        )
        if not rows:
            raise StoreUnavailable(retry_after_s=1)
        return Listing(*rows[0])

    async def remove(self, kind: str, subject: str, listing: str, *, author: str) -> bool:
        """Takes it off again; False if it was not there."""
        named = {"kind": kind, "subject": subject, "listing": listing, "author": author}
        return bool(await self._pool.call("remove_listing", self._queries["remove_listing"], named))

    async def all(self) -> list[Listing]:
        """Every entry, what has expired too."""
        return [Listing(*row) for row in await self._pool.read("listings", self._queries["listings"])]

    async def page(
        self, *, kind: str | None, subject: str | None, listing: str | None, after: tuple[str, str, str] | None, limit: int
    ) -> list[Listing]:
        """At most `limit` entries by kind, subject and list, `after` one of them."""
        after_kind, after_subject, after_listing = after or (None, None, None)
        wanted = {"kind": kind, "subject": subject, "listing": listing, "limit": limit}
        place = {"after_kind": after_kind, "after_subject": after_subject, "after_listing": after_listing}
        return [Listing(*row) for row in await self._pool.read("listings_page", self._queries["listings_page"], {**wanted, **place})]


def import_listings(
    dsn: str, lines: Iterable[ListingLine], *, author: str, dry_run: bool = False, stage: Callable[[str], None] = lambda name: None
) -> Counter[str]:
    """Puts all lines on the lists in one transaction and counts them: `added`, `renewed` (another reason or expiry) or `unchanged`.

    The lines are read once, by another thread; what reading raises ends the import. When all is read `stage` is told `writing`.
    Raises `ImportRefused` for entries that stand twice, `DatabaseFailed`.
    """
    queries = load_queries(folder("sql") / "queries")
    with session(dsn, "paynow lists import") as connection:
        connection.set_session(isolation_level="READ COMMITTED")

        def run() -> Counter[str]:
            with connection.cursor() as cursor:
                cursor.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
                _take(cursor, queries, lines)
                stage("writing")
                cursor.execute(queries["take_listing_import_turn"])
                cursor.execute(queries["listing_counts"])
                counts = Counter(dict(cursor.fetchall()))
                if not dry_run:
                    cursor.execute(queries["carry_out_listing"], {"author": author})
            connection.commit()
            return counts

        return interruptible(connection, run)


def _take(cursor: pg.cursor, queries: dict[str, str], lines: Iterable[ListingLine]) -> None:
    cursor.execute(queries["make_listing"])
    waiting = iter(lines)
    while chunk := list(islice(waiting, CHUNK_ROWS)):
        copied = io.StringIO()
        csv.writer(copied).writerows((*line[:5], line.expires_at.isoformat() if line.expires_at else None) for line in chunk)
        copied.seek(0)
        cursor.copy_expert(queries["copy_listing"], copied)
    cursor.execute(queries["listing_doubles"], (FAULTS_KEPT_MAX,))
    if rows := cursor.fetchall():
        raise ImportRefused("the file has faults", [(line, message) for line, message, _ in rows], rows[0][2])
