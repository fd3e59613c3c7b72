"""Cases in PostgreSQL: what a migration finds there, what processes of before still write, what the schema refuses, and labels."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg2.errors
import pytest

from database import MADE_ONCE, execute
from paynow import resources
from paynow.cases.work import CaseWork
from paynow.errors import OutcomeUnknown
from paynow.ids import new_id
from paynow.payments.fingerprint import fingerprint
from paynow.plugin_api import Payment
from paynow.store import Store, migrations
from paynow.store.audit import audit
from paynow.store.records import Case, ClaimRequest, Finished, Settlement
from service import balance, open_account
from wire import wire_to

REVIEW = """insert into payments (customer_id, payment_id, payee_id, amount_minor, currency, decision, degraded, policy_version, decided_at, answer)
values ('c_1', %s::uuid, 'p_1', 100, 'USD', 'review', false, 'v', now(), '{}')"""
CASE = "insert into cases (customer_id, case_id, payment_id, amount_minor, currency, reasons) values ('c_1', %s::uuid, %s::uuid, 100, 'USD', '[]')"


def opened(dsn: str) -> tuple[str, str]:
    """A payment and its case, as they are written elsewhere than in the settle."""
    payment_id, case_id = str(uuid4()), str(uuid4())
    execute(dsn, REVIEW, payment_id)
    execute(dsn, CASE, case_id, payment_id)
    return payment_id, case_id


async def review(store: Store, case: Case, number: int = 1) -> Payment:
    """A settled review with its case."""
    payment = Payment(new_id("c_1"), "c_1", "p_1", 100, "USD")
    request = ClaimRequest(payment, f"k-{number}", fingerprint("c_1", "p_1", 100, "USD"), uuid4().hex, "request-1", "v")
    assert (await store.decisions.claim(request, None)).outcome == "claimed"
    now = datetime.now(UTC)
    finished = Finished(b'{"answer":1}', b'{"event":1}')
    settled = await store.decisions.settle(
        Settlement(request, "v", "review", False, now, now + timedelta(days=1), new_id("c_1"), finished, case, False)
    )
    assert settled.outcome == "settled"
    return payment


def test_cases_of_before_are_open_without_urgency_and_due_a_day_after_the_migration(empty_database: str, tmp_path: Path) -> None:
    older = tmp_path / "sql"
    shutil.copytree(resources.folder("sql"), older)
    for migration in (older / "migrations").glob("*.sql"):
        if migration.stem[:4] > "0002":
            migration.unlink()
    shutil.rmtree(older / "functions")
    (older / "functions").mkdir()
    migrations.migrate(empty_database, folder=older)
    execute(empty_database, "insert into customers (customer_id) values ('c_1')")
    _, case_id = opened(empty_database)
    assert migrations.migrate(empty_database)[-1] == "functions"
    rows = execute(empty_database, "select case_id::text, status, priority, history_seq, due_at - now() from cases")
    assert [row[:4] for row in rows] == [(case_id, "open", 0, 0)]
    assert timedelta(hours=23) < rows[0][4] <= timedelta(hours=24)
    guards = next(finding for finding in audit(empty_database)[1] if finding.check.name == "guards_are_on")
    assert guards.offenders == 0


def test_the_migration_may_stop_anywhere_and_is_begun_again(empty_database: str, tmp_path: Path) -> None:
    """It is no transaction: a crash between its last statement and the record repeats all of it, on rows too."""
    migrations.migrate(empty_database)
    execute(empty_database, "insert into customers (customer_id) values ('c_1')")
    opened(empty_database)
    before = execute(empty_database, "select * from cases")
    execute(empty_database, "delete from schema_migrations where version >= 4; drop table " + MADE_ONCE)
    migrations.migrate(empty_database)
    assert execute(empty_database, "select * from cases") == before


async def test_priority_and_due_time_are_written_with_the_decision_and_by_the_completer(database: str) -> None:
    open_account(database, "c_1", 10_000)
    store = Store(database)
    try:
        settled = Case(new_id("c_1"), b"[]", priority=3, due_s=7200)
        await review(store, settled)
        payment_id = str(uuid4())
        execute(database, REVIEW.replace("answer)", "answer, case_pending)").replace("'{}')", "'{}', true)"), payment_id)
        late = Case(new_id("c_1"), b"[]", priority=1, due_s=60)
        assert await store.payments.open_case(Payment(UUID(payment_id), "c_1", "p_1", 100, "USD"), late)
        for case, priority, due_s in ((settled, 3, 7200), (late, 1, 60)):
            found = await store.cases.find(case.case_id)
            assert found is not None
            assert (found.priority, (found.due_at - found.opened_at).total_seconds()) == (priority, due_s)
    finally:
        await store.close()


def test_a_process_of_before_goes_on_settling_reviews(database: str) -> None:
    """It calls the settle, and opens cases, without what it does not know."""
    open_account(database, "c_1", 10_000)
    payment_id, case_id, token = (str(uuid4()) for _ in range(3))
    claim = (
        "insert into idempotency_keys values ('c_1', 'k-1', sha256('f'), %s::uuid, 'processing', %s::uuid, now(), now(), 'p_1', 100, 'USD', 'r', 'v')"
    )
    execute(database, claim, payment_id, token)
    outcomes = execute(
        database,
        """select outcome from settle_payments(array['c_1'], array['k-1'], array[%s::uuid], array[%s::uuid], array['p_1'], array[100], array['USD'],
            array['v'], array[now()], array['review'], array[false], array[now()], array[gen_random_uuid()], array['{}'], array['{}'],
            array[%s::uuid], array['[]'], array[false])""",
        token,
        payment_id,
        case_id,
    )
    assert outcomes == [("settled",)]
    assert execute(database, "select case_id::text, priority, due_at - opened_at from cases") == [(case_id, 0, timedelta(hours=24))]
    assert execute(database, "select open_case('c_1', %s::uuid, %s::uuid, '[]')", payment_id, case_id) == [(False,)], "it does not wait for one"


@pytest.mark.parametrize(
    "change",
    [
        "status = 'claimed'",
        "holder = 'key'",
        "status = 'claimed', holder = 'key'",
        "status = 'approved'",
        "status = 'declined', resolved_by = 'key'",
        "resolved_by = 'key', resolved_at = now()",
    ],
)
def test_the_schema_refuses_a_case_that_nobody_holds_or_resolved(database: str, change: str) -> None:
    execute(database, "insert into customers (customer_id) values ('c_1')")
    opened(database)
    with pytest.raises(psycopg2.errors.CheckViolation):
        execute(database, f"update cases set {change}")


def test_only_what_was_allowed_or_reviewed_may_hold_a_reservation(database: str) -> None:
    execute(database, "insert into customers (customer_id) values ('c_1')")
    opened(database)
    held = "reservation = 'held', reserved_until = now()"
    execute(database, f"update payments set {held}")
    for change in ("reserved_until = null", "decision = 'block'", "decision = 'allow', reservation = null, reserved_until = null"):
        with pytest.raises(psycopg2.errors.CheckViolation):
            execute(database, f"update payments set {change}")


@pytest.mark.parametrize("resolution", ["approve", "decline"])
async def test_a_resolution_whose_answers_are_lost_is_repeated_without_harm(database: str, resolution: str) -> None:
    """Two answers are lost: the first and that of the pool's own repetition. What happened is not known, and asking again tells it."""
    open_account(database, "c_1", 10_000)
    async with wire_to(database) as wire:
        store, told = Store(wire.dsn), []
        try:
            case = Case(new_id("c_1"), b"[]")
            await review(store, case)
            work = CaseWork(store.cases, reservation_ttl_s=60, resolved=lambda: told.append(True))
            act = work.approve if resolution == "approve" else work.decline
            wire.lose_answers("resolve_case", times=2)
            with pytest.raises(OutcomeUnknown):
                await act(case.case_id, "key")
            first = await act(case.case_id, "key")
            assert await act(case.case_id, "key") == first
            assert (first.status, first.resolved_by) == (f"{resolution}d", "key")
        finally:
            await store.close()
    assert balance(database, "c_1") == ((9_900, 100) if resolution == "approve" else (10_000, 0))
    assert execute(database, "select count(*) from outbox where type = 'paynow.case.resolved'") == [(1,)]
    assert execute(database, "select act, actor from case_history") == [(f"{resolution}d", "key")]


async def test_what_was_approved_counts_as_allowed_from_then_on(database: str) -> None:
    open_account(database, "c_1", 10_000)
    store = Store(database)
    try:
        case = Case(new_id("c_1"), b"[]")
        payment = await review(store, case)
        before = await store.reads.activity(payment)
        await CaseWork(store.cases, reservation_ttl_s=60, resolved=lambda: None).approve(case.case_id, "key")
        after = await store.reads.activity(payment)
    finally:
        await store.close()
    assert (before.allowed_count, before.allowed_minor_24h, before.payee_known) == (0, 0, False)
    assert (after.allowed_count, after.allowed_minor_24h, after.allowed_mean_minor, after.payee_known) == (1, 100, 100, True)
