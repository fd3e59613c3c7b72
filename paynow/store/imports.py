"""Bringing in accounts with their opening amounts: all or nothing, and repeatable without doubling. Knows nothing of files.

The lines go into a temporary table first, some at a time, so that customers are locked only for as long as the writing takes.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import psycopg2.extensions as pg

from paynow.errors import PayNowError
from paynow.money import to_text
from paynow.resources import folder
from paynow.store.queries import load_queries
from paynow.store.session import interruptible, session

CHUNK_ROWS = 10_000
FAULTS_KEPT_MAX = 20
LOCK_TIMEOUT = "30s"


class ImportRefused(PayNowError):
    """Nothing was brought in. `faults` are the first of `faults_in_all` (line, message) pairs."""

    def __init__(self, message: str, faults: Sequence[tuple[int, str]], faults_in_all: int) -> None:
        super().__init__(message)
        self.faults = tuple(faults)
        self.faults_in_all = faults_in_all


@dataclass(frozen=True, slots=True)
class OpeningAccount:
    """A line of a file: the account and its opening amount in minor units, zero or more."""

    line: int
    customer_id: str
    currency: str
    opening_minor: int


def import_accounts(
    dsn: str,
    accounts: Iterable[OpeningAccount],
    *,
    adjust: bool = False,
    dry_run: bool = False,
    stage: Callable[[str], None] = lambda name: None,
) -> Counter[str]:
    """Opens the accounts in one transaction and counts them by outcome: `created`, `unchanged`, and with `adjust` `adjusted`.

    The accounts are read once, by another thread; what reading raises ends the import. When all is read `stage` is told `checking`, then `writing`.
    Raises `ImportRefused` with every line that cannot be brought in, `DatabaseFailed`.
    """
    queries = load_queries(folder("sql") / "queries")
    with session(dsn, "paynow accounts import") as connection:
        connection.set_session(isolation_level="READ COMMITTED")

        def run() -> Counter[str]:
            with connection.cursor() as cursor:
                cursor.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
                counts = _Import(cursor, queries, stage).run(accounts, adjust=adjust, dry_run=dry_run)
            connection.commit()
            return counts

        return interruptible(connection, run)


class _Import:
    """One import inside its transaction."""

    def __init__(self, cursor: pg.cursor, queries: dict[str, str], stage: Callable[[str], None]) -> None:
        self._cursor = cursor
        self._queries = queries
        self._stage = stage

    def run(self, accounts: Iterable[OpeningAccount], *, adjust: bool, dry_run: bool) -> Counter[str]:
        self._do("make_importing")
        for chunk in _chunks(iter(accounts)):
            self._cursor.copy_expert(self._queries["copy_importing"], _copied(chunk))
        self._stage("checking")
        self._do("analyze_importing")
        self._refuse_doubles()
        self._do("take_import_turn")
        if not dry_run:
            self._do("add_importing_customers")
            self._do("lock_importing_customers")
        self._do("judge_importing", {"adjust": adjust})
        self._do("judged_counts")
        counts = Counter(dict(self._cursor.fetchall()))
        self._refuse_faults(counts["differs"] + counts["too_low"])
        if not dry_run:
            self._stage("writing")
            self._do("carry_out_judged")
        return counts

    def _refuse_doubles(self) -> None:
        self._do("importing_doubles", (FAULTS_KEPT_MAX,))
        rows = self._cursor.fetchall()
        if rows:
            raise ImportRefused("the file has faults", [(line, message) for line, message, _ in rows], rows[0][2])

    def _refuse_faults(self, in_all: int) -> None:
        if in_all:
            self._do("judged_faults", (FAULTS_KEPT_MAX,))
            faults = [(line, _message(*rest)) for line, *rest in self._cursor.fetchall()]
            raise ImportRefused("accounts stand otherwise in the database", faults, in_all)

    def _do(self, name: str, parameters: dict[str, object] | tuple[object, ...] | None = None) -> None:
        self._cursor.execute(self._queries[name], parameters)


def _message(verdict: str, currency: str, opening_minor: int, available_minor: int, change_minor: int) -> str:
    if verdict == "differs":
        return f"the account was opened with {to_text(opening_minor, currency)} {currency}: --adjust writes an entry of the difference"
    change, available = to_text(change_minor, currency), to_text(available_minor, currency)
    return f"an entry of {change} {currency} would take what is available, {available}, below zero"


def _chunks(accounts: Iterator[OpeningAccount]) -> Iterator[list[OpeningAccount]]:
    while chunk := list(islice(accounts, CHUNK_ROWS)):
        yield chunk


def _copied(chunk: Sequence[OpeningAccount]) -> io.StringIO:
    """The chunk in the form of COPY; ids and currencies were checked, so nothing needs to be escaped."""
    return io.StringIO("".join(f"{one.line}\t{one.customer_id}\t{one.currency}\t{one.opening_minor}\n" for one in chunk))
