"""Each step looks into indexes and nothing else, however large the tables were when PostgreSQL chose its plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg2
import psycopg2.extensions
import pytest

from database import execute
from paynow.payments.fingerprint import fingerprint
from paynow.resources import folder
from paynow.store.queries import load_queries
from service import open_account

ROWS = 30_000
BLOCKS_MAX = 120
"""What one payment may touch in one step. Reading any of the tables or indexes from end to end is more."""

BLOCKS_MAX_OF_PARTITIONS = 16 * 12
"""What looks once into each partition of the event log."""
RELAY = "00000000-0000-0000-0000-000000000001"
GROW = f"""
insert into customers (customer_id) select 'x_' || n from generate_series(1, {ROWS}) n;
insert into accounts (customer_id, currency, allowed_sums) select 'x_' || n, 'USD', array_fill(0, array[45]) from generate_series(1, {ROWS}) n;
insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change)
select 'x_' || n, 'USD', 1, 'credit', 1, 0 from generate_series(1, {ROWS}) n;
insert into attempts (customer_id, currency, tick, total_count, total_amount, counts)
select 'x_' || n, 'USD', 1, 1, 1, array_fill(0, array[45]) from generate_series(1, {ROWS}) n;
insert into rate_limits (subject, kind, full_at) select 'x_' || n, 'customer', now() from generate_series(1, {ROWS}) n;
insert into known_payees (customer_id, payee_id) select 'x_' || n, 'p_1' from generate_series(1, {ROWS}) n;
insert into payees (payee_id, first_seen_at, hour, counts, customers) select 'x_' || n, now(), window_tick(now()) / 360, array_fill(1, array[25]), 25
from generate_series(1, {ROWS}) n;
insert into payee_customers (payee_id, customer_id, hour) select 'x_' || n % 10, 'x_' || n, window_tick(now()) / 360
from generate_series(1, {ROWS}) n;
insert into lists (kind, subject, listing, reason) select 'payee', 'x_' || n, 'block', 'test' from generate_series(1, {ROWS}) n;
insert into idempotency_keys (customer_id, key, fingerprint, payment_id, claim_token, lease_until, payee_id, amount_minor, currency, request_id,
    policy_version)
select 'x_' || n, 'k', sha256('f'), gen_random_uuid(), gen_random_uuid(), now() + interval '1 hour', 'p_1', 1, 'USD', 'r', 'v'
from generate_series(1, {ROWS}) n;
insert into payments (customer_id, payment_id, payee_id, amount_minor, currency, decision, degraded, policy_version, reservation, reserved_until,
    decided_at, answer)
select 'x_' || n, gen_random_uuid(), 'p_1', 1, 'USD', 'allow', false, 'v', 'held', now() + interval '1 hour', now(), repeat('x', 100)
from generate_series(1, {ROWS}) n;
insert into cases (customer_id, case_id, payment_id, amount_minor, currency, reasons, status, resolved_by, resolved_at, label)
select customer_id, gen_random_uuid(), payment_id, 1, 'USD', '[]', 'declined', 'key', now(), 'false_positive' from payments
where customer_id like 'x%';
insert into event_log (partition, place, customer_id, sequence, event_id, type, subject, occurred_at, data)
select n % 16, n / 16 + 1, 'x_' || n, 1, gen_random_uuid(), 'paynow.payment.decided', 's', now() - interval '2 days', '{{}}'
from generate_series(0, {ROWS} - 1) n;
update event_partitions set last_place = {ROWS} / 16, relay_id = '{RELAY}', held_until = now() + interval '1 hour';
insert into event_sinks (sink) values ('broker');
insert into event_progress (sink, partition, place) select 'broker', partition, last_place - 1 from event_partitions;
insert into event_retries (sink, due_at, partition, customer_id, sequence, event_id, type, subject, occurred_at, data)
select 'broker', now() + interval '1 hour', partition, customer_id, sequence, event_id, type, subject, occurred_at, data from event_log limit 300;
insert into event_retries (sink, due_at, partition, customer_id, sequence, event_id, type, subject, occurred_at, data)
select 'webhook', now() - interval '1 hour', partition, customer_id, sequence, event_id, type, subject, occurred_at, data from event_log;
"""
ANALYZE = "vacuum analyze"
LOOKING_AROUND: dict[str, tuple[object, ...]] = {
    "abandoned_claims": (100,),
    "due_reservations": (100,),
    "log_events": (RELAY, 5),
    "next_events": ("broker", RELAY, 500),
    "due_events": ("broker", RELAY, 500),
    "forget_events": (RELAY, 259_200, 2_000),
    "outbox_lag": (),
    "events_behind": (),
    "count_payees": (2,),
    "watch_policy": (timedelta(minutes=1), timedelta(0), timedelta(seconds=3.5), 12),
}
"""What the completer, the relay, who counts payees and the policy guard ask every few seconds, and mostly find nothing or little."""
POLICY_OF_OLD = """
select activate_policy('9f86d081884c7d659a2feaa0c55ad015', '', 'test', 'seeded', null);
alter table policy_activations disable trigger user;
update policy_activations set at = at - interval '1 h';
"""


class Steps:
    """One payment's way on one connection, and how many blocks each step touches."""

    def __init__(self, connection: psycopg2.extensions.connection) -> None:
        self._cursor = connection.cursor()
        self._queries = load_queries(folder("sql") / "queries")
        self._paid: tuple[str, str] = ("", "")

    def blocks(self, query: str, *parameters: object, **named: object) -> int:
        self._cursor.execute(f"explain (analyze, buffers, format json) {self._queries[query]}", named or parameters)
        plan = self._cursor.fetchone()[0][0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    def walk(self, customer: str) -> dict[str, int]:
        """Claim, reads, settle; then the ways off the straight one: replay, take-over, an allow without money, the end of a reservation."""
        walked = {}
        for rate in (None, 1_000.0):
            key = uuid4().hex
            name = "limited" if rate else "unlimited"
            walked[f"claim {name}"], token, payment = self.claim(customer, key, rate)
            walked[f"balance {name}"] = self.blocks("balance", [customer], ["USD"])
            walked[f"activity {name}"] = self.blocks("activity", [customer], ["USD"], ["p_1"])
            walked[f"settle {name}"] = self.settle(customer, key, token, payment, 100)
            walked[f"settle {name} again"] = self.settle(customer, key, token, payment, 100)
            walked[f"replay {name}"], _, _ = self.claim(customer, key, rate)
            walked[f"capture {name}"] = self.blocks(
                "end_reservations", [customer], [payment], "captured", [str(uuid4())], "paynow.reservation.captured", ["{}"]
            )
        key = uuid4().hex
        self.claim(customer, key, None)
        execute(self._cursor.connection.dsn, "update idempotency_keys set lease_until = now() - interval '1 s' where key = %s", key)
        walked["take over"], token, _ = self.claim(customer, key, None)
        walked["abandon by another"] = self.blocks("abandon", [customer], [key], [str(uuid4())])
        walked["settle short"] = self.settle(customer, key, token, str(uuid4()), 10**12)
        return walked

    def claim(self, customer: str, key: str, rate: float | None) -> tuple[int, str, str]:
        token, payment = str(uuid4()), str(uuid4())
        print_of = psycopg2.Binary(fingerprint(customer, "p_1", 100, "USD"))
        return (
            self.blocks(
                "claim",
                *([customer], [key], _typed("bytea", [print_of]), _typed("uuid", [payment]), _typed("uuid", [token]), ["p_1"], [100], ["USD"]),
                *(["request-1"], ["v"], timedelta(seconds=60), rate, 1_000, False),
            ),
            token,
            payment,
        )

    def settle(self, customer: str, key: str, token: str, payment: str, amount: int) -> int:
        now = datetime.now(UTC)
        return self.blocks(
            "settle",
            *([customer], [key], _typed("uuid", [token]), _typed("uuid", [payment]), ["p_1"], [amount], ["USD"], ["v"], [now], ["allow"], [False]),
            *([now + timedelta(days=1)], _typed("uuid", [str(uuid4())]), '{"answer":1}', "{}", _typed("uuid", [None]), "", [False], [0], [3600]),
        )

    def cases(self, customer: str) -> dict[str, int]:
        """A review whose case is worked on, and what shows it."""
        key, payment, case, now = uuid4().hex, str(uuid4()), str(uuid4()), datetime.now(UTC)
        _, token, _ = self.claim(customer, key, None)
        typed = _typed("uuid", [payment])
        self.blocks(
            "settle",
            *([customer], [key], _typed("uuid", [token]), typed, ["p_1"], [100], ["USD"], ["v"], [now], ["review"], [False], [now]),
            *(_typed("uuid", [str(uuid4())]), "{}", "{}", _typed("uuid", [case]), "[]", [False], [1], [3600]),
        )
        walked = {act: self.blocks("work_case", customer, case, act, "key", False, None, None) for act in ("claimed", "unclaimed")}
        walked["labelled"] = self.blocks("work_case", customer, case, "labelled", "key", False, None, "unclear")
        walked["noted"] = self.blocks("work_case", customer, case, "noted", "key", False, "a note", None)
        filters = dict.fromkeys(("status", "holder", "label", "currency", "amount_min", "amount_max", "age_min", "age_max"))
        place = {"overdue": False, "before": None, "after_priority": None, "after_due": None, "after_case": None, "limit": 20}
        for name, wanted in (("newest", {}), ("open", {"status": "open"}), ("held", {"holder": "key"}), ("label", {"label": "unclear"})):
            walked[f"page of {name}"] = self.blocks("cases_page", **filters | place | wanted)
        for name, wanted in (("queue", {}), ("queue after", {"after_priority": 0, "after_due": now, "after_case": case})):
            walked[name] = self.blocks("cases_queue", **filters | place | wanted)
        walked["approved"] = self.blocks("resolve_case", customer, case, "approved", "key", timedelta(days=1), str(uuid4()), "{}")
        walked["approved again"] = self.blocks("resolve_case", customer, case, "approved", "key", timedelta(days=1), str(uuid4()), "{}")
        walked["case"] = self.blocks("case_by_id", case)
        walked["history"] = self.blocks("case_history", customer, case)
        walked["waiting"] = self.blocks("cases_waiting")
        return walked


def _typed(kind: str, values: list[object]) -> psycopg2.extensions.AsIs:
    """A list as an array of a type that its elements do not tell."""
    adapted = psycopg2.extensions.adapt(values)
    return psycopg2.extensions.AsIs(f"{adapted.getquoted().decode()}::{kind}[]")


@pytest.fixture
def steps(database: str) -> Iterator[Steps]:
    with closing(psycopg2.connect(database)) as connection:
        connection.autocommit = True
        yield Steps(connection)


@pytest.mark.parametrize(
    "before",
    [(), (ANALYZE,), (GROW,), (GROW, ANALYZE)],
    ids=["empty, never analysed", "analysed when tiny", "large, never analysed", "large and analysed"],
)
def test_a_step_costs_the_same_after_its_tables_have_grown(database: str, steps: Steps, before: tuple[str, ...]) -> None:
    for customer in ("c_1", "c_2"):
        open_account(database, customer, 1_000_000)
    for statement in before:
        execute(database, statement)
    first = steps.walk("c_1")
    steps.cases("c_1")  # its plans are made now; what it reads of the catalogue, this once, is not counted
    steps.blocks("count_payees", 2)
    steps.blocks("log_events", RELAY, 5)
    if GROW not in before:
        execute(database, GROW)
    second = steps.walk("c_2")
    cases = steps.cases("c_2")
    execute(database, POLICY_OF_OLD)
    steps.blocks("watch_policy", *LOOKING_AROUND["watch_policy"])  # its plans are made now, too
    looked = {query: steps.blocks(query, *parameters) for query, parameters in LOOKING_AROUND.items()}
    assert max(looked.pop(query) for query in ("events_behind", "due_events", "next_events")) <= BLOCKS_MAX_OF_PARTITIONS
    assert {step: blocks for step, blocks in {**first, **second, **cases, **looked}.items() if blocks > BLOCKS_MAX} == {}
