"""Bringing in accounts with their opening amounts: all or nothing, and repeatable without doubling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import psycopg2

from paynow.errors import PayNowError

CHUNK_ROWS = 2_000
FAULTS_MAX = 1_000

_IMPORT = "select ordinal, outcome from import_accounts(%s::text[], %s::text[], %s::bigint[], %s)"
_MESSAGES = {
    "differs": "the account has another opening amount already; --adjust writes an entry of the difference",
    "too_low": "the difference would take what is available below zero",
}


class ImportRefused(PayNowError):
    """Nothing was brought in. `faults` holds (line, message) pairs; it is empty if the database could not be used."""

    def __init__(self, message: str, faults: Iterable[tuple[int, str]] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class OpeningAccount:
    """A line of a file: the account and its opening amount in minor units."""

    line: int
    customer_id: str
    currency: str
    opening_minor: int


def import_accounts(
    dsn: str, accounts: Iterable[OpeningAccount], *, adjust: bool = False, dry_run: bool = False, progress: Callable[[int], None] = lambda rows: None
) -> Counter[str]:
    """Opens the accounts in one transaction and counts them by outcome: `created`, `unchanged`, `adjusted`.

    `progress` is told the rows done so far. Raises `ImportRefused` with every account that stands otherwise in the database.
    """
    counts: Counter[str] = Counter()
    faults: list[tuple[int, str]] = []
    try:
        with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
            for chunk in _chunks(iter(accounts)):
                columns = zip(*((one.customer_id, one.currency, one.opening_minor) for one in chunk), strict=True)
                cursor.execute(_IMPORT, (*map(list, columns), adjust))
                for ordinal, outcome in cursor.fetchall():
                    counts[outcome] += 1
                    if outcome in _MESSAGES and len(faults) < FAULTS_MAX:
                        faults.append((chunk[ordinal - 1].line, _MESSAGES[outcome]))
                progress(counts.total())
            if faults:
                raise ImportRefused("some accounts stand otherwise in the database", sorted(faults))
            if dry_run:
                connection.rollback()
            else:
                connection.commit()
    except psycopg2.Error as error:
        raise ImportRefused(f"the database could not be used: {type(error).__name__}") from error
    return counts


def _chunks(accounts: Iterator[OpeningAccount]) -> Iterator[list[OpeningAccount]]:
    while chunk := list(islice(accounts, CHUNK_ROWS)):
        yield chunk
