"""Who pays a payee, counted behind the payments: each customer once, for a day, whatever becomes of who counts and in what order payments settle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg2
import pytest

from database import execute
from paynow.clock import Clock
from paynow.errors import StoreUnavailable
from paynow.ids import new_id
from paynow.payments import payee_counting
from paynow.payments.payee_counting import PayeeCounting
from paynow.plugin_api import Payment
from paynow.store import Store
from paynow.store.audit import audit

HOUR = timedelta(hours=1)
PAID = """insert into payments (customer_id, payment_id, payee_id, amount_minor, currency, decision, degraded, policy_version, decided_at, answer)
values (%s, %s::uuid, %s, 100, 'USD', 'block', false, 'v', %s, '{}')"""


class Behind:
    """Remembers what the counting tells."""

    def __init__(self) -> None:
        self.told_s: list[float] = []

    def payees_behind(self, seconds: float) -> None:
        self.told_s.append(seconds)


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    opened = Store(database, acquire_timeout_s=5, statement_timeout_s=5)
    yield opened
    await opened.close()


@pytest.fixture
def hour_begins(database: str) -> datetime:
    """The beginning of the current hour, in which the database's clock stands still from here on: no hour ends under a test."""
    name, now = execute(database, "select current_database(), clock_timestamp()")[0]
    for clock in ("clock_timestamp", "now"):
        execute(database, f"create function {clock}() returns timestamptz language sql as $$ select timestamptz '{now.isoformat()}' $$")
    execute(database, f"alter database {name} set search_path = public, pg_catalog")
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def counting(store: Store, meters: Behind | None = None, clock: Clock | None = None) -> PayeeCounting:
    return PayeeCounting(store.payees, meters or Behind(), clock or Clock(), every_s=1)


def pay(dsn: str, customer: str, payee: str = "p_1", at: datetime | None = None) -> None:
    """A decided payment, as a settle leaves it."""
    execute(dsn, PAID, customer, str(uuid4()), payee, at or datetime.now(UTC))


def let_hours_pass(dsn: str, hours: int) -> None:
    """All that was paid is so many hours older: each hour's count lies in the cell of an earlier one."""
    moved = "select array_agg(counts[(cell - 1 + %s) %% 25 + 1] order by cell) from generate_series(1, 25) cell"
    execute(dsn, f"update payees set hour = hour - %s, counts = ({moved})", hours, hours)
    execute(dsn, "update payee_customers set hour = hour - %s", hours)
    execute(dsn, "update payments set decided_at = decided_at - make_interval(hours => %s)", hours)


async def customers(store: Store, payee: str = "p_1") -> int:
    return (await store.reads.activity(Payment(new_id("c_0"), "c_0", payee, 100, "USD"))).payee_customers_24h


def offenders(dsn: str) -> list[object]:
    """What the audit says of the counts; the payments of these tests are no whole ones."""
    return [finding for finding in audit(dsn)[1] if finding.check.name == "payees_count_their_customers" and finding.offenders]


async def test_a_customer_who_pays_twice_counts_once(store: Store, database: str) -> None:
    for customer in ("c_1", "c_2", "c_1", "c_1"):
        pay(database, customer)
    pay(database, "c_3", "p_2")
    assert await customers(store) == 0, "nothing is counted yet"
    assert await counting(store).catch_up() == 5
    assert (await customers(store), await customers(store, "p_2"), await customers(store, "p_none")) == (2, 1, 0)
    pay(database, "c_2")
    assert await counting(store).catch_up() == 1
    assert await customers(store) == 2
    assert offenders(database) == []


async def test_a_customer_counts_for_the_24_hours_after_the_hour_of_the_last_payment(store: Store, database: str, hour_begins: datetime) -> None:
    moments = {
        "c_in_its_last_hour": hour_begins - 24 * HOUR,
        "c_gone": hour_begins - 24 * HOUR - timedelta(seconds=1),
        "c_now": hour_begins,
    }
    for customer, at in moments.items():
        pay(database, customer, at=at)
    await counting(store).catch_up()
    assert await customers(store) == 2
    noted = execute(database, "select customer_id from payee_customers order by 1")
    assert noted == [("c_in_its_last_hour",), ("c_now",)]
    assert offenders(database) == []


@pytest.mark.usefixtures("hour_begins")
async def test_who_has_not_paid_for_a_day_leaves_without_anything_being_counted(store: Store, database: str) -> None:
    for customer in ("c_1", "c_2"):
        pay(database, customer)
    await counting(store).catch_up()
    for hours, expected in ((24, 2), (1, 0)):
        let_hours_pass(database, hours)
        assert await customers(store) == expected


@pytest.mark.usefixtures("hour_begins")
async def test_who_comes_again_moves_to_the_later_hour(store: Store, database: str) -> None:
    for customer in ("c_1", "c_2"):
        pay(database, customer)
    await counting(store).catch_up()
    let_hours_pass(database, 20)
    pay(database, "c_2")
    await counting(store).catch_up()
    assert await customers(store) == 2
    let_hours_pass(database, 5)
    assert await customers(store) == 1, "25 hours after the payment of the one, 5 after that of the other"


@pytest.mark.usefixtures("hour_begins")
async def test_long_gone_customers_are_forgotten(store: Store, database: str) -> None:
    for number in range(5):
        pay(database, f"c_{number}")
    await counting(store).catch_up()
    let_hours_pass(database, 25)
    pay(database, "c_9")
    await counting(store).catch_up()
    assert execute(database, "select customer_id from payee_customers") == [("c_9",)]
    assert await customers(store) == 1
    assert offenders(database) == []


@pytest.mark.parametrize("seed", range(4))
async def test_counts_are_what_a_recount_says(store: Store, database: str, hour_begins: datetime, seed: int) -> None:
    """Payments of two days in any order, counted in lots of any size."""
    chance = random.Random(seed)
    paid: list[tuple[str, str, datetime]] = []
    for _ in range(120):
        moment = hour_begins - chance.randrange(48) * HOUR
        paid.append((f"c_{chance.randrange(12)}", f"p_{chance.randrange(3)}", moment))
        pay(database, *paid[-1])
        if chance.random() < 0.2:
            await store.payees.count(chance.choice((1, 3, 50)))
    while (await store.payees.count(7)).payments:
        pass
    for payee in ("p_0", "p_1", "p_2"):
        lately = {customer for customer, paid_to, at in paid if paid_to == payee and at >= hour_begins - 24 * HOUR}
        assert await customers(store, payee) == len(lately)
    first = dict(execute(database, "select payee_id, first_seen_at from payees"))
    assert first == {payee: min(at for _, paid_to, at in paid if paid_to == payee) for payee in {payee for _, payee, _ in paid}}
    assert offenders(database) == []


async def test_a_payee_is_as_old_as_anybodys_first_payment(store: Store, database: str) -> None:
    pay(database, "c_1", at=datetime.now(UTC) - 100 * HOUR)
    pay(database, "c_2")
    await counting(store).catch_up()
    activity = await store.reads.activity(Payment(new_id("c_0"), "c_0", "p_1", 100, "USD"))
    assert 360_000 <= activity.payee_age_s < 360_060
    assert activity.payee_customers_24h == 1


async def test_a_payment_that_is_committed_late_is_not_missed(store: Store, database: str) -> None:
    """Its transaction began first and ends last; what came after it waits, so that the order holds, and what came before it does not."""
    meters = Behind()
    pay(database, "c_before")
    with closing(psycopg2.connect(database)) as slow, slow.cursor() as cursor:
        cursor.execute(PAID, ("c_slow", str(uuid4()), "p_1", datetime.now(UTC) - timedelta(seconds=30)))
        pay(database, "c_quick", at=datetime.now(UTC) - timedelta(seconds=20))
        assert await counting(store, meters).catch_up() == 1
        assert await customers(store) == 1
        assert 20 <= meters.told_s[-1] < 30, "the lag is told of what can be seen"
        slow.commit()
    assert await counting(store, meters).catch_up() == 2
    assert await customers(store) == 3
    assert meters.told_s[-1] == 0


async def test_it_catches_up_after_any_time_lot_by_lot(store: Store, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payee_counting, "BATCH_MAX", 3)
    for number in range(8):
        pay(database, f"c_{number}")
    meters = Behind()
    assert await counting(store, meters).catch_up() == 8
    assert len(meters.told_s) == 3
    assert meters.told_s[0] > 0
    assert await customers(store) == 8


async def test_payments_of_one_transaction_are_counted_once_each_also_in_several_lots(store: Store, database: str) -> None:
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        for number in range(5):
            cursor.execute(PAID, (f"c_{number}", str(uuid4()), "p_1", datetime.now(UTC)))
        connection.commit()
    assert [(await store.payees.count(2)).payments for _ in range(4)] == [2, 2, 1, 0]
    assert await customers(store) == 5


@pytest.mark.parametrize("end", ["rollback", "terminate"])
async def test_who_is_stopped_in_the_middle_has_counted_nothing_and_nothing_is_counted_twice(store: Store, database: str, end: str) -> None:
    for number in range(3):
        pay(database, f"c_{number}")
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("select counted, pg_backend_pid() from count_payees(2)")
        counted, pid = cursor.fetchone()
        assert counted == 2
        if end == "rollback":
            connection.rollback()
        else:
            execute(database, "select pg_terminate_backend(%s, 5000)", pid)
    assert await customers(store) == 0
    assert await counting(store).catch_up() == 3
    assert await customers(store) == 3
    assert offenders(database) == []


async def test_one_at_a_time_counts_and_the_others_do_not_wait(store: Store, database: str) -> None:
    pay(database, "c_1")
    with closing(psycopg2.connect(database)) as holder, holder.cursor() as cursor:
        cursor.execute("select counted from count_payees(10)")
        pay(database, "c_2")
        assert await store.payees.count(10) is None
        assert await counting(store).catch_up() == 0
        holder.commit()
    assert await counting(store).catch_up() == 1
    assert await customers(store) == 2


async def test_many_who_count_at_once_count_each_payment_once(store: Store, database: str) -> None:
    for number in range(40):
        pay(database, f"c_{number % 20}", f"p_{number % 2}")
    counts = await asyncio.gather(*(store.payees.count(5) for _ in range(12)))
    done = sum(count.payments for count in counts if count is not None)
    assert done + await counting(store).catch_up() == 40
    assert await customers(store, "p_0") + await customers(store, "p_1") == 20
    assert offenders(database) == []


async def test_looking_where_nothing_is_new_writes_nothing(store: Store, database: str) -> None:
    pay(database, "c_1")
    await counting(store).catch_up()
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("select counted from count_payees(10)")
        assert cursor.fetchone() == (0,)
        cursor.execute("select pg_current_xact_id_if_assigned()")
        assert cursor.fetchone() == (None,)


async def test_after_a_restore_into_another_cluster_what_is_settled_from_then_on_is_counted(store: Store, database: str) -> None:
    """There transactions are numbered anew, and the position lies beyond all of them, as do payments that were brought along."""
    pay(database, "c_brought")
    execute(database, "update payments set settled_by = '99999999998'; update payee_position set read_to = '99999999999'")
    assert await counting(store).catch_up() == 0
    assert (await store.payees.count(5)).behind_s == 0
    pay(database, "c_1")
    assert await counting(store).catch_up() == 1
    assert await customers(store) == 1


@pytest.mark.usefixtures("hour_begins")
async def test_a_clock_that_is_ahead_counts_in_the_current_hour(store: Store, database: str) -> None:
    """There is no cell for an hour that is still to come."""
    pay(database, "c_ahead", at=datetime.now(UTC) + 30 * HOUR)
    await counting(store).catch_up()
    pay(database, "c_1")
    await counting(store).catch_up()
    for hours, expected in ((0, 2), (5, 2), (20, 0)):
        let_hours_pass(database, hours)
        assert await customers(store) == expected


async def test_it_looks_again_and_again_and_waits_out_the_store(
    store: Store, database: str, monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, object]]
) -> None:
    pauses = iter(range(4))
    count = store.payees.count
    failures: list[Exception] = [StoreUnavailable(retry_after_s=1), RuntimeError("a fault")]

    async def troubled(limit: int):
        if failures:
            raise failures.pop(0)
        return await count(limit)

    async def sleep(seconds: float) -> None:
        assert seconds == 1
        if next(pauses, None) is None:
            raise asyncio.CancelledError

    monkeypatch.setattr(store.payees, "count", troubled)
    pay(database, "c_1")
    with pytest.raises(asyncio.CancelledError):
        await counting(store, clock=Clock(sleep=sleep)).run()
    assert await customers(store) == 1
    assert [line["error"] for line in logged] == ["store_unavailable", "RuntimeError"]
