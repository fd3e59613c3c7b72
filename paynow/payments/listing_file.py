"""Reading a file of list entries: `kind,id,list,reason,expires_at`. Knows nothing of who stands on the lists already."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from paynow.payments.csv_file import read_csv
from paynow.payments.listings import KINDS, LISTS, REASON_LENGTH_MAX
from paynow.store.records import ListingLine

COLUMNS = ["kind", "id", "list", "reason", "expires_at"]

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z", re.ASCII)


def read_listings(file: Path, *, progress: Callable[[int], None] = lambda read_bytes: None) -> Iterator[ListingLine]:
    """The entries of the file, one after the other; `progress` is told the bytes read, now and then. An expiry that is over is taken as it is,
    so that an old file can be brought in again.

    Raises `ImportRefused` at its end with every line that is wrong, and `OSError`.
    """
    return read_csv(file, COLUMNS, _listing, progress=progress)


def _listing(line: int, row: list[str]) -> ListingLine | str:
    kind, subject, listing, reason, expires = row
    if kind not in KINDS:
        return "kind: expected customer or payee"
    if not _ID.match(subject):
        return "id: expected 1 to 64 of the characters A-Z a-z 0-9 _ . : -"
    if listing not in LISTS:
        return "list: expected allow or block"
    if not reason.strip() or not reason.isprintable() or len(reason) > REASON_LENGTH_MAX:
        return f"reason: expected 1 to {REASON_LENGTH_MAX} printable characters"
    try:
        expires_at = _moment(expires) if expires else None
    except (ValueError, OverflowError):
        return "expires_at: expected a time in RFC 3339 with its offset, such as 2027-01-31T12:00:00Z, or nothing"
    return ListingLine(line, kind, subject, listing, reason, expires_at)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no offset")
    return moment.astimezone(UTC)
