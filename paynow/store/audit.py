"""The promises, checked against what is stored: each check is one named query that returns whatever breaks it. Reads only.

All checks see one snapshot. `docs/audit.md` says of each which promise it holds to account and what to do when it finds something.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2.extensions as pg

from paynow import money
from paynow.resources import folder
from paynow.store.queries import load_queries
from paynow.store.session import interruptible, session

SHOWN_MAX = 20
FETCHED_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Check:
    """What is checked. `promise` is the number of the promise in the README."""

    name: str
    promise: int
    sentence: str

    @property
    def query(self) -> str:
        """The name of its query, whose rows are what breaks it."""
        return f"audit_{self.name}"


CHECKS = (
    Check("decided_keys_have_their_payment", 1, "a decided key leads to its payment"),
    Check("payments_have_their_key", 1, "a payment has one key, and it is decided"),
    Check("accounts_equal_ledger", 2, "accounts equal the sums of their ledger entries"),
    Check("balances_not_negative", 2, "no balance is negative"),
    Check("ledger_gapless", 2, "ledger entries are numbered without a gap"),
    Check("reserved_is_held", 2, "reserved money is that of held payments"),
    Check("guards_are_on", 2, "the schema's own guards are in force"),
    Check("allowed_reserve_once", 3, "an allowed or approved payment reserved once, its amount"),
    Check("only_allowed_reserve", 3, "no other payment reserved"),
    Check("reservations_end_once", 3, "an ended reservation ended once"),
    Check("payments_lead_somewhere", 3, "a payment's customer and policy are there"),
    Check("answers_agree", 3, "stored answers say what the columns say"),
    Check("spending_counts_allowed", 3, "amounts counted are those allowed"),
    Check("signals_count_payments", 3, "failed attempts and usual amounts are those of payments"),
    Check("payees_count_their_customers", 3, "payees count the customers who paid them"),
    Check("known_payees_were_allowed", 3, "known payees are those allowed"),
    Check("cases_reserve_if_approved", 3, "an approved case reserved, no other review did"),
    Check("cases_have_their_history", 3, "a case is what its history says"),
    Check("claims_are_finished", 4, "no claim is left hanging"),
    Check("event_sequences_count", 4, "event numbers count decisions, ended reservations and resolved cases"),
    Check("outbox_in_sequence", 4, "events that are kept are in sequence, none is missing"),
    Check("outbox_tells_what_happened", 4, "events that are kept tell what is stored"),
    Check("reviews_have_one_case", 4, "a review has its case or waits for it"),
    Check("only_reviews_have_cases", 4, "no other payment has a case"),
    Check("degraded_is_not_more_permissive", 5, "no degraded decision is too mild"),
    Check("policies_are_unchanged", 10, "policies are the texts that they were"),
)
"""Every check there is, in the order of the promises."""


@dataclass(frozen=True, slots=True)
class Offender:
    """One thing that breaks a promise: what it is (ids, separated by spaces), and what is wrong with it. Amounts are minor units."""

    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: the number of offenders, the first of them, and the seconds that it took."""

    check: Check
    offenders: int
    shown: tuple[Offender, ...]
    duration_s: float


def audit(
    dsn: str,
    *,
    started: Callable[[Check], None] = lambda check: None,
    finished: Callable[[Finding], None] = lambda finding: None,
) -> tuple[datetime, list[Finding]]:
    """When the snapshot was taken, and what each check found in it.

    `started` and `finished` are told of each check, from another thread. Raises `DatabaseFailed`.
    """
    queries = load_queries(folder("sql") / "queries")
    exponents = money.exponents()
    parameters = {
        "currencies": list(exponents),
        "exponents": list(exponents.values()),
    }
    with session(dsn, "paynow audit") as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)

        def run() -> tuple[datetime, list[Finding]]:
            taken_at = _snapshot(connection)
            findings = []
            for check in CHECKS:
                started(check)
                findings.append(_run(connection, check, queries[check.query], parameters))
                finished(findings[-1])
            return taken_at, findings

        return interruptible(connection, run)


def _snapshot(connection: pg.connection) -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("select now()")
        return cursor.fetchone()[0]


def _run(connection: pg.connection, check: Check, query: str, parameters: dict[str, Any]) -> Finding:
    """A cursor of the server's: however many offenders there are, few are held at once."""
    began = time.monotonic()
    offenders = 0
    shown: list[Offender] = []
    with connection.cursor(name=check.query) as cursor:
        cursor.itersize = FETCHED_AT_ONCE
        cursor.execute(query, parameters)
        for row in cursor:
            offenders += 1
            if len(shown) < SHOWN_MAX:
                shown.append(Offender(*row))
    return Finding(check, offenders, tuple(shown), time.monotonic() - began)
