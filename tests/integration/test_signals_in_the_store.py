"""What the signals are made of, as claims and settles leave it: what counts, what is taken back, and what processes of before still find."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from database import MADE_ONCE, contents, execute
from paynow import resources
from paynow.cases.work import CaseWork
from paynow.ids import new_id
from paynow.money import AMOUNT_MINOR_MAX
from paynow.payments.fingerprint import fingerprint
from paynow.plugin_api import NEVER_S, Activity, Payment
from paynow.store import Store, migrations
from paynow.store.records import Case, ClaimRequest, Finished, Settled, Settlement
from service import open_account

HOUR_TICKS = 360
ASLEEP_S = 200 * 86_400


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store on a fresh database in which `c_1` has 1,000.00 in dollars and as much in euros."""
    for currency in ("USD", "EUR"):
        open_account(database, "c_1", 100_000, currency)
    opened = Store(database, lease_s=60, acquire_timeout_s=5, statement_timeout_s=5)
    yield opened
    await opened.close()


def payment_of(amount_minor: int = 100, *, currency: str = "USD", payee_id: str = "p_1") -> Payment:
    return Payment(new_id("c_1"), "c_1", payee_id, amount_minor, currency)


async def claimed(store: Store, payment: Payment) -> ClaimRequest:
    print_of = fingerprint(payment.customer_id, payment.payee_id, payment.amount_minor, payment.currency)
    request = ClaimRequest(payment, str(payment.payment_id), print_of, uuid4().hex, "request-1", "v")
    assert (await store.decisions.claim(request, None)).outcome == "claimed"
    return request


def settlement_of(request: ClaimRequest, decision: str, case: Case | None = None) -> Settlement:
    now = datetime.now(UTC)
    finished = Finished(b'{"answer":1}', b'{"event":1}')
    return Settlement(request, "v", decision, False, now, now + timedelta(days=1), new_id("c_1"), finished, case, False)


async def settled(store: Store, request: ClaimRequest, decision: str, case: Case | None = None) -> Settled:
    return await store.decisions.settle(settlement_of(request, decision, case))


async def decided(store: Store, decision: str, amount_minor: int = 100, **changes: str) -> ClaimRequest:
    request = await claimed(store, payment_of(amount_minor, **changes))
    assert (await settled(store, request, decision)).outcome == "settled"
    return request


async def seen(store: Store, **changes: str) -> Activity:
    return await store.reads.activity(payment_of(**changes))


async def test_of_a_customer_who_never_paid_nothing_is_known(store: Store) -> None:
    activity = await seen(store)
    assert (activity.failed_attempts_24h, activity.usual_count, activity.usual_mean_minor, activity.usual_deviation_minor) == (0, 0, 0.0, 0.0)
    assert (activity.customer_age_s, activity.payee_known_s, activity.payee_age_s, activity.payee_customers_24h) == (0, 0, 0, 0)
    assert activity.since_allowed_s == NEVER_S


async def test_a_claim_brings_the_signals_along(store: Store, database: str) -> None:
    await decided(store, "allow")
    await decided(store, "block")
    execute(database, "update attempts set first_at = first_at - interval '1 day'")
    payment = payment_of()
    request = ClaimRequest(payment, "k-1", fingerprint("c_1", "p_1", 100, "USD"), uuid4().hex, "request-1", "v")
    brought = (await store.decisions.claim(request, None)).seen.activity
    assert (brought.failed_attempts_24h, brought.usual_count, brought.usual_mean_minor, brought.customer_age_s) == (1, 1, 100.0, 86_400)


async def test_what_is_usual_is_made_of_allowed_payments_of_the_currency(store: Store) -> None:
    amounts = [300, 500, 1_000, 50]
    for amount in amounts:
        await decided(store, "allow", amount)
    await decided(store, "review", 90_000)
    await decided(store, "block", 90_000)
    await decided(store, "allow", 7_000, currency="EUR")
    activity = await seen(store)
    assert activity.usual_count == 4
    assert activity.usual_mean_minor == pytest.approx(statistics.fmean(amounts))
    assert activity.usual_deviation_minor == pytest.approx(statistics.pstdev(amounts))
    assert (await seen(store, currency="EUR")).usual_mean_minor == 7_000


async def test_an_approved_review_becomes_usual(store: Store) -> None:
    case = Case(new_id("c_1"), b"[]")
    await settled(store, await claimed(store, payment_of(400)), "review", case)
    assert (await seen(store)).usual_count == 0
    await CaseWork(store.cases, reservation_ttl_s=60, resolved=lambda: None).approve(case.case_id, "key")
    activity = await seen(store)
    assert (activity.usual_count, activity.usual_mean_minor, activity.since_allowed_s < 60) == (1, 400.0, True)


def let_it_sleep(dsn: str) -> None:
    """The last allowed payment becomes so much older."""
    execute(dsn, "update accounts set allowed_tick = allowed_tick - %s where allowed_count > 0", ASLEEP_S // 10)


@pytest.mark.parametrize("decision", ["allow", "block"])
async def test_a_settle_that_is_repeated_counts_nothing_twice_and_wakes_no_sleeping_account(store: Store, database: str, decision: str) -> None:
    for amount in (100, 333, 50):
        await decided(store, "allow", amount)
    request = await decided(store, decision, 1_000)
    let_it_sleep(database)
    accounts, before = contents(database)["accounts"], await seen(store)
    await settled(store, request, decision)
    after = await seen(store)
    assert after.since_allowed_s >= ASLEEP_S
    ages = dict.fromkeys(("since_allowed_s", "customer_age_s", "payee_known_s"), 0)
    assert replace(after, **ages) == replace(before, **ages)
    assert contents(database)["accounts"] == accounts


@pytest.mark.parametrize("decision", ["allow", "block"])
async def test_a_settle_that_comes_too_late_counts_nothing(store: Store, decision: str) -> None:
    request = (await claimed(store, payment_of()))._replace(token=uuid4().hex)
    assert (await settled(store, request, decision)).outcome == "fenced"
    activity = await seen(store)
    assert (activity.failed_attempts_24h, activity.usual_count, activity.usual_mean_minor, activity.usual_deviation_minor) == (0, 0, 0.0, 0.0)
    assert activity.since_allowed_s == NEVER_S


@pytest.mark.parametrize("amount_minor", [100, AMOUNT_MINOR_MAX])
async def test_a_settle_that_comes_too_late_leaves_an_account_as_it_was_to_the_last_digit(store: Store, database: str, amount_minor: int) -> None:
    """Also the usual amounts beside which a very large one leaves no digit, and since when the account has slept."""
    for amount in (90, 100, 113):
        await decided(store, "allow", amount)
    execute(database, "update accounts set available = %s", AMOUNT_MINOR_MAX)
    let_it_sleep(database)
    accounts = contents(database)["accounts"]
    request = (await claimed(store, payment_of(amount_minor)))._replace(token=uuid4().hex)
    assert (await settled(store, request, "allow")).outcome == "fenced"
    assert contents(database)["accounts"] == accounts
    assert (await seen(store)).since_allowed_s >= ASLEEP_S


async def test_failed_attempts_are_blocked_payments_in_any_currency(store: Store) -> None:
    for decision in ("block", "allow", "review", "block"):
        await decided(store, decision)
    await decided(store, "block", currency="EUR")
    await claimed(store, payment_of())
    assert (await seen(store)).failed_attempts_24h == (await seen(store, currency="JPY")).failed_attempts_24h == 3


async def test_money_that_is_gone_by_the_settle_is_a_failed_attempt_once(store: Store) -> None:
    request = await claimed(store, payment_of(900_000))
    assert (await settled(store, request, "allow")).outcome == "short"
    assert (await seen(store)).failed_attempts_24h == 0
    await settled(store, request, "block")
    assert (await seen(store)).failed_attempts_24h == 1


@pytest.mark.parametrize(("hours", "expected"), [(24, 1), (25, 0), (1_000, 0)])
async def test_a_failed_attempt_leaves_after_24_hours_and_the_rest_of_its_own(store: Store, database: str, hours: int, expected: int) -> None:
    await decided(store, "block")
    execute(database, "update customers set failed_tick = failed_tick - %s", hours * HOUR_TICKS)
    assert (await seen(store)).failed_attempts_24h == expected


async def test_the_last_allowed_payment_is_that_of_any_currency(store: Store, database: str) -> None:
    await decided(store, "allow")
    await decided(store, "allow", currency="EUR")
    execute(database, "update accounts set allowed_tick = allowed_tick - case currency when 'USD' then 6 else 360 end")
    for currency in ("USD", "EUR", "JPY"):
        assert (await seen(store, currency=currency)).since_allowed_s in (60, 70)
    await decided(store, "block")
    assert (await seen(store)).since_allowed_s >= 60, "what is not allowed does not count"
    execute(database, "update accounts set allowed_tick = 1")
    assert (await seen(store)).since_allowed_s == NEVER_S


async def test_a_customer_is_as_old_as_the_first_attempt_in_any_currency(store: Store, database: str) -> None:
    await claimed(store, payment_of())
    assert (await seen(store)).customer_age_s < 60
    await claimed(store, payment_of(currency="EUR"))
    execute(database, "update attempts set first_at = first_at - interval '2 hours' where currency = 'EUR'")
    await claimed(store, payment_of(currency="EUR"))
    assert 7_200 <= (await seen(store)).customer_age_s < 7_260


async def test_a_payee_is_known_since_its_first_allowed_payment(store: Store, database: str) -> None:
    await decided(store, "allow")
    execute(database, "update known_payees set first_allowed_at = first_allowed_at - interval '1 hour'")
    await decided(store, "allow")
    assert 3_600 <= (await seen(store)).payee_known_s < 3_660
    assert (await seen(store, payee_id="p_2")).payee_known_s == 0


async def test_processes_of_before_go_on_reading_and_claiming(store: Store, database: str) -> None:
    """They call the functions that know nothing of these signals, and find what they always did."""
    await decided(store, "allow", 300)
    old = "select attempts, attempted, allowed, allowed_count, allowed_mean, payee_known, payee_list, customer_list from "
    [read] = execute(database, old + "read_activity(array['c_1'], array['USD'], array['p_1'])")
    assert read == ([1, 1, 1], [300, 300, 300], [300, 300, 300], 1, 300, True, "none", "none")
    claim = (
        "select outcome, available, attempts, allowed_count, payee_known from claim_and_look(array['c_1'], array['k-1'], array[sha256('f')], "
        "array[gen_random_uuid()], array[gen_random_uuid()], array['p_1'], array[5]::bigint[], array['USD'], array['r'], array['v'], "
        "interval '60 s', null, null, false)"
    )
    assert execute(database, claim) == [("claimed", None, None, None, None), ("seen", 99_700, [2, 2, 2], 1, True)]


def of_before(folder: Path) -> Path:
    """The schema as it was before these signals, without functions."""
    older = folder / "sql"
    shutil.copytree(resources.folder("sql") / "migrations", older / "migrations")
    (older / "functions").mkdir()
    for migration in (older / "migrations").glob("*.sql"):
        if migration.stem[:4] > "0004":
            migration.unlink()
    return older


async def test_a_database_of_before_is_changed_without_a_row_written_anew_and_counts_from_then_on(empty_database: str, tmp_path: Path) -> None:
    migrations.migrate(empty_database, folder=of_before(tmp_path))
    open_account(empty_database, "c_1", 100_000)
    execute(empty_database, "update accounts set allowed_count = 9, allowed_sum = 900, allowed_tick = 1")
    execute(empty_database, "insert into attempts (customer_id, currency, tick, total_count, total_amount) values ('c_1', 'USD', 1, 9, 900)")
    files = "select relname, relfilenode from pg_class where relname in ('attempts', 'accounts', 'customers', 'payments') order by 1"
    before = execute(empty_database, files)
    migrations.migrate(empty_database)
    execute(empty_database, "delete from schema_migrations where version >= 5; drop table " + MADE_ONCE)
    migrations.migrate(empty_database)  # it may stop anywhere and is begun again
    assert execute(empty_database, files) == before
    store = Store(empty_database)
    try:
        activity = await seen(store)
        assert (activity.allowed_count, activity.usual_count, activity.failed_attempts_24h, activity.payee_customers_24h) == (9, 0, 0, 0)
        assert 0 <= activity.customer_age_s < 60, "as if the customer had come with the update: the stricter guess"
        await decided(store, "allow", 500)
        assert ((await seen(store)).usual_count, (await seen(store)).usual_mean_minor) == (1, 500.0)
        assert await store.payees.count(10) == (1, 0.0)
    finally:
        await store.close()
