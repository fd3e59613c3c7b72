"""The audit: clean after real traffic, and each check fires, alone, when what it guards is broken on purpose."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from database import execute
from paynow.store import Store
from paynow.store.audit import CHECKS, SHOWN_MAX, Finding, audit
from paynow.store.session import DatabaseFailed
from service import body, open_account, running

ROOT = Path(__file__).parents[2]

MOVE = """
alter table ledger_entries drop constraint ledger_entries_kind_says_the_way;
insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change, payment_id)
select a.customer_id, a.currency, a.entry_seq + 1, {kind}, {available}, {reserved}, p.payment_id
from payments p join accounts a using (customer_id, currency) where {which};
insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change)
select a.customer_id, a.currency, a.entry_seq + 2, 'adjust', -({available}), -({reserved})
from payments p join accounts a using (customer_id, currency) where {which};
update accounts a set entry_seq = entry_seq + 2 from payments p where p.customer_id = a.customer_id and p.currency = a.currency and {which};
"""
"""One entry too many, and another that makes the sums right again."""

HELD = "p.reservation = 'held' and p.customer_id = 'c_held'"
BLOCKED = "p.decision = 'block' and p.customer_id = 'c_poor'"
FALLBACK = '{"step":"fallback","tool":"getRiskSignals","onFailure":"review"},{"step":"decide"'

LOGGED = """
select begin_sink('one'); select share_events('00000000-0000-0000-0000-000000000001', '{one}', 60);
select log_events('00000000-0000-0000-0000-000000000001', 100);
update event_progress g set place = p.last_place from event_partitions p where p.partition = g.partition;
"""
"""All events are in the log, and a sink has them."""

BREAKS = {
    "decided_keys_have_their_payment": [
        "update idempotency_keys set fingerprint = sha256('other') where customer_id = 'c_held'",
        """insert into idempotency_keys (customer_id, key, fingerprint, payment_id, state, claim_token)
            select customer_id, 'nowhere', fingerprint, gen_random_uuid(), 'decided', claim_token
            from idempotency_keys where customer_id = 'c_held'""",
    ],
    "payments_have_their_key": [
        "delete from idempotency_keys where customer_id = 'c_held'",
        """insert into idempotency_keys (customer_id, key, fingerprint, payment_id, state, claim_token)
            select customer_id, 'second', fingerprint, payment_id, 'decided', claim_token from idempotency_keys where customer_id = 'c_held'""",
    ],
    "accounts_equal_ledger": [
        "update accounts set available = available + 1 where customer_id = 'c_held'",
        "update ledger_entries set available_change = available_change + 1 where kind = 'credit' and customer_id = 'c_held'",
        """insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change)
            values ('c_held', 'EUR', 1, 'credit', 1, 0), ('c_held', 'EUR', 2, 'adjust', -1, 0)""",
    ],
    "balances_not_negative": [
        """alter table accounts drop constraint accounts_available_check;
            insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change)
            select customer_id, currency, entry_seq + 1, 'adjust', -available - 1, 0 from accounts where customer_id = 'c_held';
            update accounts set available = -1, entry_seq = entry_seq + 1 where customer_id = 'c_held'""",
    ],
    "ledger_gapless": [
        "update accounts set entry_seq = entry_seq + 1 where customer_id = 'c_held'",
        "update ledger_entries set entry_seq = entry_seq + 10 where kind = 'credit' and customer_id = 'c_held'",
    ],
    "reserved_is_held": [
        """alter table ledger_entries drop constraint ledger_entries_kind_says_the_way;
            insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change)
            select customer_id, currency, entry_seq + 1, 'adjust', 0, 5 from accounts where customer_id = 'c_held';
            update accounts set reserved = reserved + 5, entry_seq = entry_seq + 1 where customer_id = 'c_held'""",
    ],
    "guards_are_on": [
        "alter table ledger_entries disable trigger ledger_entries_append_only",
        """alter table accounts drop constraint accounts_reserved_check;
            alter table accounts add constraint accounts_reserved_check check (reserved >= 0) not valid""",
    ],
    "allowed_reserve_once": [MOVE.format(kind="'reserve'", available="-p.amount_minor", reserved="p.amount_minor", which=HELD)],
    "only_allowed_reserve": [MOVE.format(kind="'reserve'", available="-p.amount_minor", reserved="p.amount_minor", which=BLOCKED)],
    "reservations_end_once": [
        MOVE.format(kind="'capture'", available="0", reserved="-p.amount_minor", which=HELD),
        MOVE.format(kind="'release'", available="p.amount_minor", reserved="-p.amount_minor", which="p.reservation = 'captured'"),
    ],
    "payments_lead_somewhere": [
        "delete from policies",
        "delete from customers where customer_id = 'c_held'; delete from outbox where customer_id = 'c_held'",
    ],
    "answers_agree": [
        """update payments set answer = replace(answer, '"decision":"block"', '"decision":"review"') where customer_id = 'c_poor'""",
        "update payments set answer = replace(answer, payment_id::text, gen_random_uuid()::text) where customer_id = 'c_held'",
        "update payments set answer = 'not JSON' where customer_id = 'c_poor'",
        """update payments set answer = replace(answer, '"amount":"1.00"', '"amount":"1.01"') where customer_id = 'c_held'""",
    ],
    "spending_counts_allowed": [
        "update accounts set allowed_count = allowed_count + 1 where customer_id = 'c_held'",
        "update accounts set allowed_sum = allowed_sum + 1 where customer_id = 'c_held'",
        "update accounts set allowed_count = 0, allowed_sum = 0 where customer_id = 'c_held'",
    ],
    "signals_count_payments": [
        "update customers set failed_count = failed_count + 1 where customer_id = 'c_poor'",
        "update accounts set usual_count = usual_count + 1 where customer_id = 'c_held'",
        "update accounts set usual_variance = -1 where customer_id = 'c_held'",
        "update schema_migrations set applied_at = applied_at - interval '1 day'; update customers set failed_count = 0",
        "update schema_migrations set applied_at = applied_at - interval '1 day'; update accounts set usual_count = 0",
    ],
    "payees_count_their_customers": [
        "update payees set counts[hour % 25 + 1] = counts[hour % 25 + 1] + 1",
        "delete from payee_customers where customer_id = 'c_held'",
        "update payees set customers = customers + 1",
        "delete from payees",
        "insert into payee_customers (payee_id, customer_id, hour) values ('p_stranger', 'c_held', window_tick(now()) / 360)",
        "delete from payees; delete from payee_customers",
    ],
    "known_payees_were_allowed": [
        "insert into known_payees (customer_id, payee_id) values ('c_held', 'p_stranger')",
        "delete from known_payees where customer_id = 'c_held'",
    ],
    "cases_reserve_if_approved": [
        """update payments set reservation = 'held', reserved_until = now() where customer_id = 'c_declined';
            update accounts set available = available - 500000, reserved = reserved + 500000, entry_seq = entry_seq + 1, allowed_count = 1,
                allowed_sum = 500000 where customer_id = 'c_declined';
            insert into known_payees (customer_id, payee_id) values ('c_declined', 'p_1');
            insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change, payment_id)
            select customer_id, currency, 2, 'reserve', -500000, 500000, payment_id from payments where customer_id = 'c_declined'""",
        """update payments set reservation = null, reserved_until = null where customer_id = 'c_approved';
            update accounts set available = 1000000, reserved = 0, entry_seq = 1, allowed_count = 0, allowed_sum = 0, usual_count = 0
            where customer_id = 'c_approved';
            delete from known_payees where customer_id = 'c_approved';
            delete from ledger_entries where customer_id = 'c_approved' and kind = 'reserve'""",
    ],
    "cases_have_their_history": [
        "delete from case_history where customer_id = 'c_claimed' and act = 'noted'",
        "update case_history set actor = 'another' where customer_id = 'c_claimed' and act = 'claimed'",
        "update cases set holder = 'another' where customer_id = 'c_claimed'",
        "update cases set status = 'open', holder = null, claimed_at = null where customer_id = 'c_claimed'",
        "update cases set label = 'confirmed_fraud' where customer_id = 'c_claimed'",
        "update cases set history_seq = 9 where customer_id = 'c_claimed'",
        "update case_history set label = 'confirmed_fraud' where customer_id = 'c_approved' and act = 'labelled'",
        """update cases set status = 'claimed', holder = resolved_by, claimed_at = now(), resolved_by = null, resolved_at = null
            where customer_id = 'c_declined'; delete from outbox where customer_id = 'c_declined';
            update customers set event_seq = 1 where customer_id = 'c_declined'""",
    ],
    "claims_are_finished": [
        """insert into idempotency_keys (customer_id, key, fingerprint, payment_id, claim_token, lease_until, payee_id, amount_minor, currency,
            request_id, policy_version) select 'c_held', 'dead', sha256('dead'), gen_random_uuid(), gen_random_uuid(),
            now() - interval '2 minutes', 'p_1', 1, 'USD', 'r', version from policies""",
    ],
    "event_sequences_count": [
        "delete from outbox where customer_id = 'c_held'; update customers set event_seq = event_seq + 1 where customer_id = 'c_held'",
        "delete from outbox where customer_id = 'c_approved'; update customers set event_seq = event_seq - 1 where customer_id = 'c_approved'",
    ],
    "outbox_in_sequence": [
        LOGGED + "delete from event_log where customer_id = 'c_many' and sequence = 2",
        LOGGED + "update event_log set place = place + 1000 where customer_id = 'c_many' and sequence = 3",
        LOGGED + "update event_partitions set last_place = last_place + 1",
        LOGGED + "update event_progress set place = place + 1 where partition = (select max(partition) from event_log)",
        "delete from outbox where customer_id = 'c_many' and sequence = 2",
        "delete from outbox where customer_id = 'c_many' and sequence = (select event_seq from customers where customer_id = 'c_many')",
        "update outbox set sequence = sequence + 7 where customer_id = 'c_held'",
    ],
    "outbox_tells_what_happened": [
        LOGGED + "update event_log set data = replace(data::text, '\"allow\"', '\"block\"')::json where customer_id = 'c_held'",
        "update outbox set data = replace(data::text, '\"allow\"', '\"block\"')::json where customer_id = 'c_held'",
        "update outbox set subject = gen_random_uuid()::text where customer_id = 'c_held'",
        "update outbox set data = replace(data::text, '\"declined\"', '\"approved\"')::json where customer_id = 'c_declined'",
        "update outbox set data = replace(data::text, '\"environment\"', '\"another\"')::json where customer_id = 'c_approved'",
    ],
    "reviews_have_one_case": ["update payments set case_pending = true where customer_id = 'c_rich'"],
    "only_reviews_have_cases": [
        """insert into cases (customer_id, case_id, payment_id, amount_minor, currency, reasons)
            select customer_id, gen_random_uuid(), payment_id, amount_minor, currency, '[]' from payments where customer_id = 'c_poor'""",
        "update cases set amount_minor = amount_minor + 1 where customer_id = 'c_rich'",
    ],
    "degraded_is_not_more_permissive": [
        f"""update payments set degraded = true, answer = replace(replace(answer, '"degraded":false', '"degraded":true'), '{{"step":"decide"',
            '{FALLBACK}') where customer_id = 'c_held'""",
    ],
    "policies_are_unchanged": ["update policies set body = body || ' '"],
}


@pytest.fixture(scope="module")
def traffic(postgres_server, template_database: str, database_numbers: Iterator[int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database after every kind of decision and end of a reservation, with all its events waiting; to be copied."""
    name = f"test_{next(database_numbers)}"
    execute(postgres_server.dsn, f"create database {name} template {template_database}")
    dsn = make_dsn(postgres_server.dsn, dbname=name)
    for customer in ("c_held", "c_captured", "c_released", "c_rich", "c_many", "c_approved", "c_declined", "c_claimed"):
        open_account(dsn, customer, 1_000_000)
    open_account(dsn, "c_poor", 10)
    open_account(dsn, "c_yen", 5_000, "JPY")
    folder = tmp_path_factory.mktemp("service")
    (folder / "paynow.toml").write_text('[events]\nsinks = []\n[rate_limit]\ncustomer = "off"\n')
    with running(dsn, folder, arguments=("--config", "paynow.toml")) as service:
        asyncio.run(_decide_every_way(service))
    execute(dsn, "select count_payees(1000)")
    yield name
    execute(postgres_server.dsn, f"drop database {name} with (force)")


async def _decide_every_way(service) -> None:
    async with service.client() as client:

        async def decide(customer: str, amount: str, expected: str, key: str = "k-1", **changes: object) -> str:
            async with client.post("/api/payments/decide", json=body(customer, amount, key, **changes)) as response:
                answer = await response.json()
                assert answer["decision"] == expected
                return answer["paymentId"]

        await decide("c_held", "1.00", "allow")
        await decide("c_poor", "1.00", "block")
        await decide("c_rich", "5000.00", "review")
        for customer, act in (("c_approved", "approve"), ("c_declined", "decline"), ("c_claimed", "claim")):
            payment_id = await decide(customer, "5000.00", "review")
            case_id = execute(service.dsn, "select case_id::text from cases where payment_id = %s::uuid", payment_id)[0][0]
            for path, document in (("note", {"note": "looked at"}), (act, None), ("label", {"label": "unclear"})):
                async with client.post(f"/api/cases/{case_id}/{path}", json=document) as response:
                    assert response.status == 200
        await decide("c_yen", "125", "allow", currency="JPY")
        for number in range(3):
            await decide("c_many", "1.00", "allow", f"k-{number}", payeeId=f"p_{number}")
        for customer, end in (("c_captured", "capture"), ("c_released", "release")):
            payment_id = await decide(customer, "1.00", "allow")
            async with client.post(f"/api/payments/{payment_id}/{end}") as response:
                assert response.status == 200


@pytest.fixture
def copied(postgres_server, traffic: str, database_numbers: Iterator[int]) -> Iterator[str]:
    """The DSN of a copy of the database with traffic."""
    name = f"test_{next(database_numbers)}"
    execute(postgres_server.dsn, f"create database {name} template {traffic}")
    yield make_dsn(postgres_server.dsn, dbname=name)
    execute(postgres_server.dsn, f"drop database {name} with (force)")


def corrupt(dsn: str, statements: str) -> None:
    """Past triggers and foreign keys, as a faulty restore would."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("set session_replication_role = replica")
        cursor.execute(statements)
        connection.commit()


def fired(dsn: str) -> dict[str, Finding]:
    _, findings = audit(dsn)
    assert [finding.check for finding in findings] == list(CHECKS)
    return {finding.check.name: finding for finding in findings if finding.offenders}


def test_a_database_with_nothing_in_it_is_clean(database: str) -> None:
    assert fired(database) == {}


def test_a_database_with_real_traffic_is_clean(copied: str) -> None:
    assert execute(copied, "select count(*), count(distinct decision), count(distinct reservation) from payments") == [(12, 3, 3)]
    assert execute(copied, "select count(*) from outbox") == [(16,)]
    assert fired(copied) == {}


def test_it_is_clean_while_events_were_delivered_in_part(copied: str) -> None:
    execute(copied, "delete from outbox where customer_id = 'c_many' and sequence < 3")
    execute(copied, "delete from outbox where customer_id = 'c_held'")
    assert fired(copied) == {}


def test_it_is_clean_when_events_are_in_the_log_and_the_first_of_them_forgotten(copied: str) -> None:
    corrupt(copied, LOGGED)
    assert execute(copied, "select count(*) from event_log") == [(16,)]
    assert fired(copied) == {}
    execute(copied, "delete from event_log where place < 3")
    assert fired(copied) == {}


def test_every_check_is_broken_on_purpose_below() -> None:
    assert set(BREAKS) == {check.name for check in CHECKS}


@pytest.mark.parametrize(("check", "statements"), [(check, statements) for check, ways in BREAKS.items() for statements in ways])
def test_exactly_the_check_fires_whose_promise_is_broken(copied: str, check: str, statements: str) -> None:
    corrupt(copied, statements)
    found = fired(copied)
    assert list(found) == [check]
    assert found[check].shown
    assert all(offender.subject and offender.detail for offender in found[check].shown)


def test_a_case_that_is_gone_is_missed_by_the_review_and_by_its_answer(copied: str) -> None:
    corrupt(copied, "delete from cases where customer_id = 'c_rich'")
    assert list(fired(copied)) == ["answers_agree", "reviews_have_one_case"]


async def test_a_payment_may_lack_the_key_that_retention_has_forgotten_whatever_it_is_set_to_now(copied: str) -> None:
    old = "01900000-0000-7000-8000-000000000000"  # its time is in the year 2024
    corrupt(
        copied,
        f"""update idempotency_keys set payment_id = '{old}', claimed_at = '2024-06-07' where customer_id = 'c_poor';
            delete from outbox where customer_id = 'c_poor';
            update payments set payment_id = '{old}', answer = replace(answer, payment_id::text, '{old}') where customer_id = 'c_poor'""",
    )
    store = Store(copied)
    assert await store.decisions.forget_keys(24, 100) == 1
    await store.close()
    assert fired(copied) == {}
    corrupt(copied, "update retention set keys_forgotten_before = '-infinity'")
    assert list(fired(copied)) == ["payments_have_their_key"]


async def test_a_key_that_retention_had_no_reason_to_forget_is_missed(copied: str) -> None:
    corrupt(
        copied, "delete from idempotency_keys where customer_id = 'c_held'; update retention set keys_forgotten_before = now() - interval '1 hour'"
    )
    assert list(fired(copied)) == ["payments_have_their_key"]


def test_many_offenders_are_counted_and_the_first_are_shown(copied: str) -> None:
    corrupt(copied, "insert into known_payees (customer_id, payee_id) select 'c_held', 'p_x' || n from generate_series(1, 1500) n")
    finding = fired(copied)["known_payees_were_allowed"]
    assert finding.offenders == 1_500
    assert len(finding.shown) == SHOWN_MAX


def test_all_checks_see_one_snapshot(copied: str) -> None:
    """What is broken after the first check is seen by none of the others."""
    finished: list[Finding] = []

    def break_after_the_first(finding: Finding) -> None:
        if not finished:
            corrupt(copied, "update policies set body = body || ' '")
        finished.append(finding)

    audit(copied, finished=break_after_the_first)
    assert len(finished) == len(CHECKS)
    assert not any(finding.offenders for finding in finished)
    assert list(fired(copied)) == ["policies_are_unchanged"]


def test_a_server_that_is_not_there_is_said_in_one_line(database: str) -> None:
    with pytest.raises(DatabaseFailed) as failed:
        audit(make_dsn(database, dbname="no_such_database"))
    assert "\n" not in str(failed.value)


def test_every_check_is_documented_with_its_promise() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| ([0-9]+)", (ROOT / "docs" / "audit.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(check.name, str(check.promise)) for check in CHECKS]
