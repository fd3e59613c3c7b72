"""Fills a database with a long past, by COPY: decided payments, all allowed and held, with all that belongs to them, so that the audit is clean.

One transaction over truncated tables: PostgreSQL then writes no log of it (`wal_level = minimal`) and finds every row frozen.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from queue import Queue
from typing import Any
from uuid import UUID

import psycopg2

from bench.servers.rivals import command, write_configuration
from bench.stage import Stage
from bench.voice import Voice
from paynow.agent import Trace
from paynow.ids import shard_of
from paynow.payments.answer import Decision, finish
from paynow.payments.fingerprint import fingerprint
from paynow.plugin_api import Payment

DATABASE = "filled"
SETTINGS = {"wal_level": "minimal", "max_wal_senders": "0", "shared_buffers": "2GB", "maintenance_work_mem": "512MB", "max_wal_size": "8GB"}
"""Of the server while it is filled; what is measured afterwards runs on PayNow's own."""
OPENING_MINOR = 10**12
AMOUNT_MINOR_MIN, AMOUNT_MINOR_SPAN = 1_000, 9_000
PAYEES = 1_000_000
PAST = timedelta(days=7), timedelta(days=1)
"""The payments were decided between so long ago and so long ago."""
TTL = timedelta(days=3650)
CHUNK_PAYMENTS = 20_000
CHUNKS_AHEAD = 3
COPY_BYTES = 1 << 20
TICK_MS = 10_000
CELLS = 45
"""Of a ring of totals: full of today's total, it says that nothing happened lately."""

COLUMNS = {
    "customers": "customer_id, event_seq",
    "accounts": "customer_id, currency, available, reserved, opening, entry_seq, allowed_count, allowed_tick, allowed_sum, allowed_sums",
    "attempts": "customer_id, currency, tick, total_count, total_amount, counts, amounts",
    "rate_limits": "subject, kind, full_at, granted",
    "ledger_entries": "customer_id, currency, entry_seq, kind, available_change, reserved_change, payment_id, recorded_at",
    "idempotency_keys": "customer_id, key, fingerprint, payment_id, state, claim_token, claimed_at",
    "known_payees": "customer_id, payee_id, first_allowed_at",
    "payments": "customer_id, payment_id, payee_id, amount_minor, currency, decision, degraded, policy_version, reservation, reserved_until, "
    "decided_at, answer, settled_by",
}
"""What is copied into each table; what is left out has its default. Nobody follows payments that no transaction has settled."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much: `favourite` of the payments are those of the customer `c_0`. `last_id` is at least every payment's id of the filling."""

    payments: int
    customers: int
    favourite: int
    last_id: str = ""


class Past:
    """The rows of the past, made in the order in which they happened; money and sequences are counted as they go."""

    def __init__(self, size: Size, policy_version: str, now: datetime) -> None:
        self._size = size
        self.policy_version = policy_version
        self._begin_ms, self._end_ms = (int((now - ago).timestamp() * 1000) for ago in PAST)
        self._shards = array("H", (shard_of.__wrapped__(f"c_{number}") for number in range(size.customers)))
        self._allowed = array("L", bytes(array("L").itemsize * size.customers))
        self._spent = array("Q", bytes(8 * size.customers))
        self._template = _answer_template(policy_version)
        self._bits = random.Random(7).getrandbits

    @property
    def last_id(self) -> str:
        """An id that no payment of the past exceeds, and every later one does."""
        return str(UUID(int=(self._end_ms + 1) << 80))

    def chunks(self) -> Iterator[dict[str, str]]:
        """The rows that come with each payment, table by table, a chunk of payments at a time."""
        for start in range(0, self._size.payments, CHUNK_PAYMENTS):
            yield self._chunk(range(start, min(start + CHUNK_PAYMENTS, self._size.payments)))

    def customers(self) -> Iterator[dict[str, str]]:
        """The rows of each customer as they stand at the end; to be made last."""
        opened, ended, tick = _text(self._begin_ms), _text(self._end_ms), self._end_ms // TICK_MS
        for start in range(0, self._size.customers, CHUNK_PAYMENTS):
            rows: dict[str, list[str]] = {name: [] for name in ("customers", "accounts", "attempts", "rate_limits", "ledger_entries")}
            for number in range(start, min(start + CHUNK_PAYMENTS, self._size.customers)):
                allowed, spent = self._allowed[number], self._spent[number]
                who = f"c_{number}"
                rows["customers"].append(f"{who}\t{allowed}\n")
                ring = _ring(spent) if allowed else "{}"
                account = f"{who}\tUSD\t{OPENING_MINOR - spent}\t{spent}\t{OPENING_MINOR}\t{allowed + 1}\t{allowed}\t{tick}\t{spent}\t{ring}\n"
                rows["accounts"].append(account)
                rows["ledger_entries"].append(f"{who}\tUSD\t1\tcredit\t{OPENING_MINOR}\t0\t\\N\t{opened}\n")
                if allowed:
                    rows["attempts"].append(f"{who}\tUSD\t{tick}\t{allowed}\t{spent}\t{_ring(allowed)}\t{ring}\n")
                    rows["rate_limits"].append(f"{who}\tcustomer\t{ended}\t1\n")
            yield {name: "".join(lines) for name, lines in rows.items()}

    def _chunk(self, numbers: range) -> dict[str, str]:
        size, version, template, bits = self._size, self.policy_version, self._template, self._bits
        span_ms = self._end_ms - self._begin_ms
        every = size.payments // size.favourite if size.favourite else size.payments + 1
        payments, keys, entries, payees = [], [], [], []
        second = -1
        decided = until = ""
        for number in numbers:
            customer = 0 if number % every == 0 else 1 + (number * 2_654_435_761 & 0xFFFF_FFFF) % (size.customers - 1)
            at_ms = self._begin_ms + number * span_ms // size.payments
            if at_ms // 1000 != second:
                second = at_ms // 1000
                moment = datetime.fromtimestamp(second, UTC)
                decided, until = moment.isoformat()[:19], (moment + TTL).isoformat()[:19]
            at, held_until = f"{decided}.{at_ms % 1000:03d}Z", f"{until}.{at_ms % 1000:03d}Z"
            chance = bits(58)
            low = f"{1 << 63 | (chance & 0x3FFF_FFFF_FFFF) << 16 | self._shards[customer]:016x}"
            high = f"{at_ms:012x}"
            payment_id = f"{high[:8]}-{high[8:]}-7{chance >> 46:03x}-{low[:4]}-{low[4:]}"
            before = self._allowed[customer]
            amount = AMOUNT_MINOR_MIN + chance % AMOUNT_MINOR_SPAN
            # Every second payment is to a payee that the customer has not paid before.
            who, payee = f"c_{customer}", f"p_{(customer * 37 + before // 2) % PAYEES}"
            if before % 2 == 0:
                payees.append(f"{who}\t{payee}\t{at}\n")
            self._allowed[customer] = before + 1
            self._spent[customer] += amount
            answer = template % {
                "id": payment_id,
                "request": high + low + "fade",
                "amount": f"{amount // 100}.{amount % 100:02d}",
                "at": at,
                "until": held_until,
            }
            payments.append(f"{who}\t{payment_id}\t{payee}\t{amount}\tUSD\tallow\tf\t{version}\theld\t{held_until}\t{at}\t{answer}\t\\N\n")
            print_of = fingerprint(who, payee, amount, "USD").hex()
            keys.append(f"{who}\tfill-{number}\t\\\\x{print_of}\t{payment_id}\tdecided\t{payment_id}\t{at}\n")
            entries.append(f"{who}\tUSD\t{before + 2}\treserve\t{-amount}\t{amount}\t{payment_id}\t{at}\n")
        return {
            "payments": "".join(payments),
            "idempotency_keys": "".join(keys),
            "ledger_entries": "".join(entries),
            "known_payees": "".join(payees),
        }


def fill(stage: Stage, size: Size, say: Voice) -> dict[str, Any]:
    """Makes the database `filled` anew; what it took. The stage's server should have `SETTINGS`."""
    began = time.monotonic()
    stage.make_database(DATABASE)
    write_configuration(stage.folder)
    command(stage, DATABASE, "migrate")
    say.begin("filling", size.payments)
    size = copy_past(stage.dsn(DATABASE), size, (stage.folder / "policy.toml").read_text(), done=lambda payments: say.done(steps=payments))
    copied_s = time.monotonic() - began
    say(f"copied in {copied_s:,.0f} s; vacuum and analyze")
    stage.run(DATABASE, "vacuum (analyze)")
    stage.run("postgres", "checkpoint")
    stage.run(DATABASE, f"comment on database {DATABASE} is %s", json.dumps(asdict(size)))
    return {
        "payments": size.payments,
        "customers": size.customers,
        "of_one_customer": size.favourite,
        "copied_s": round(copied_s, 1),
        "filled_s": round(time.monotonic() - began, 1),
        "database_gb": round(stage.number(DATABASE, "select pg_database_size(%s)", DATABASE) / 1024**3, 2),
    }


def copy_past(dsn: str, size: Size, policy: str, *, done: Callable[[int], None] = lambda payments: None) -> Size:
    """Empties a database that has the schema and writes the past into it, in one transaction; the size with its last id.

    `policy` is the text of the active one; `done` is told how many payments were written. The role has to be a superuser.
    """
    past = Past(size, hashlib.sha256(policy.encode()).hexdigest()[:32], datetime.now(UTC))
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        # The rows refer to each other as they should; checking each of them anew would take longer than writing them. The audit checks all.
        cursor.execute("set session_replication_role = replica")
        cursor.execute(f"truncate {', '.join(COLUMNS)}, policies cascade")
        cursor.execute("insert into policies (version, body, author, active) values (%s, %s, 'bench fill', true)", (past.policy_version, policy))
        for rows in _made_ahead(past):
            for table, text in rows.items():
                if text:
                    cursor.copy_expert(f"copy {table} ({COLUMNS[table]}) from stdin with (freeze)", io.BytesIO(text.encode()), size=COPY_BYTES)
            done(rows.get("payments", "").count("\n"))
        connection.commit()
    return replace(size, last_id=past.last_id)


def filled_size(stage: Stage) -> Size | None:
    """What the filled database holds, or None if there is none, or one whose filling was not finished."""
    if not stage.has_database(DATABASE):
        return None
    told = stage.run(DATABASE, "select shobj_description(oid, 'pg_database') from pg_database where datname = %s", DATABASE)[0][0]
    return Size(**json.loads(told)) if told else None


def _made_ahead(past: Past) -> Iterator[dict[str, str]]:
    """The chunks, made by a thread while the one before is being copied."""
    made: Queue[dict[str, str] | BaseException | None] = Queue(CHUNKS_AHEAD)

    def make() -> None:
        try:
            for rows in past.chunks():
                made.put(rows)
            for rows in past.customers():
                made.put(rows)
        except BaseException as error:  # raised again by who waits for the rows
            made.put(error)
        else:
            made.put(None)

    threading.Thread(target=make, daemon=True).start()
    for _ in count():
        rows = made.get()
        if rows is None:
            return
        if isinstance(rows, BaseException):
            raise rows
        yield rows


def _ring(total: int) -> str:
    return "{" + ",".join([str(total)] * CELLS) + "}"


def _text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _answer_template(policy_version: str) -> str:
    """An answer as PayNow writes it, with names where each payment has its own values; made by PayNow's own code, so that they cannot part."""
    marks = {"id": UUID(int=0x0123_4567_89AB_7CDE_8123_4567_89AB_CDEF), "request": "the-request", "amount": 98_765_432}
    decided_at = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
    trace = Trace()
    trace.plan(("getBalance", "getRiskSignals"), policy_version)
    trace.tool("getBalance", 1, "ok", 0.00211, output={"available_minor": OPENING_MINOR, "reserved_minor": 0})
    trace.tool("getRiskSignals", 1, "ok", 0.00341, output=_SIGNALS)
    trace.decide("allow", (), ())
    decision = Decision(
        payment=Payment(marks["id"], "c_0", "p_0", marks["amount"], "USD"),
        request_id=marks["request"],
        decision="allow",
        reasons=(),
        degraded=False,
        policy_version=policy_version,
        case=None,
        case_pending=False,
        decided_at=decided_at,
        reserved_until=decided_at + TTL,
        trace=trace,
    )
    text = finish(decision).answer.decode().replace("%", "%%")
    written = {
        "id": str(marks["id"]),
        "request": marks["request"],
        "amount": "987654.32",
        "at": "2001-02-03T04:05:06.000Z",
        "until": "2011-02-01T04:05:06.000Z",
    }
    for name, value in written.items():
        if text.count(value) != 1:
            raise ValueError(f"an answer holds {name} {text.count(value)} times: change bench/fill.py with it")
        text = text.replace(value, f"%({name})s")
    return text


_SIGNALS = {
    "attempts_1m": 1,
    "attempts_1h": 1,
    "attempts_24h": 2,
    "attempted_minor_1m": 5_500,
    "attempted_minor_1h": 5_500,
    "attempted_minor_24h": 11_000,
    "allowed_minor_1m": 0,
    "allowed_minor_1h": 0,
    "allowed_minor_24h": 5_500,
    "allowed_count": 4,
    "allowed_mean_minor": 5_500,
    "amount_to_mean": 1.0,
    "payee_known": True,
    "payee_list": "none",
    "customer_list": "none",
    "failed_attempts_24h": 0,
    "since_allowed_s": 86_400,
    "customer_age_s": 604_800,
    "payee_known_s": 86_400,
    "payee_age_s": 604_800,
    "payee_customers_24h": 12,
    "currency_new": False,
    "amount_z_score": 0.0,
    "amount_trailing_zeros": 0,
    "daily_limit_share": 0.0,
}
