"""On tables that the recipe of docs/scaling.md cuts into partitions PayNow decides as before, and a payment meets its customer's partition alone."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from uuid import UUID

import psycopg2
import psycopg2.errors
import pytest

from commands import paynow
from database import execute
from paynow import resources
from paynow.ids import shard_of
from paynow.store import migrations
from reviews import REVIEWS, post, reviewed
from service import audit, balance, body, open_account, running
from waiting import eventually

RECIPE = (resources.folder("sql") / "recipes" / "partition_table.sql").read_text(encoding="utf-8")
HASHED = ("payments", "idempotency_keys", "ledger_entries", "known_payees")
PARTS = 16
PATIENT = {
    **REVIEWS,
    "PAYNOW_DATABASE__ACQUIRE_TIMEOUT_MS": "20000",
    "PAYNOW_DATABASE__STATEMENT_TIMEOUT_MS": "20000",
    "PAYNOW_IDEMPOTENCY__LEASE_S": "60",
}
"""How fast the machine is just now is nothing to these tests."""
BY_CUSTOMER = """select pg_temp.partition_table(%s, 'customer_id', 'hash',
    array(select format('for values with (modulus {parts}, remainder %%s)', n) from generate_series(0, {parts} - 1) n))"""
BY_TIME = """select pg_temp.partition_table('payments', 'payment_id', 'range', array[
    'for values from (minvalue) to (''01900000-0000-0000-0000-000000000000'')',
    'for values from (''01900000-0000-0000-0000-000000000000'') to (maxvalue)'])"""
SHAPE = """
select 'index', tablename, indexname from pg_indexes where schemaname = 'public' and tablename = any (%(tables)s)
union all select 'trigger', tgrelid::regclass::text, tgname from pg_trigger where not tgisinternal and tgrelid = any (%(tables)s::regclass[])
union all select contype::text, conrelid::regclass::text, conname from pg_constraint
where contype <> 'n' and conparentid = 0 and (conrelid = any (%(tables)s::regclass[]) or confrelid = any (%(tables)s::regclass[]))
order by 1, 2, 3
"""
"""Indexes, triggers, constraints, and references from elsewhere."""
WRITTEN = "select count(*) from pg_stat_user_tables where relname ~ %s and n_tup_ins > 0"
LOOKED_INTO = "select count(*) from pg_stat_user_indexes where indexrelname ~ %s and idx_scan > 0"


def cut(dsn: str, *statements: str) -> None:
    """The recipe, in one transaction, and the functions after it. All that is on the tables is there as before."""
    shape = seen_shape(dsn)
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(RECIPE)
        for statement in statements:
            cursor.execute(statement)
    assert migrations.migrate(dsn) == ["functions"]
    assert seen_shape(dsn) == shape
    with pytest.raises(psycopg2.errors.RestrictViolation):
        execute(dsn, "update ledger_entries set kind = kind")


def seen_shape(dsn: str) -> list[tuple]:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(SHAPE, {"tables": list(HASHED)})
        return cursor.fetchall()


def by_customer(table: str) -> str:
    return BY_CUSTOMER.format(parts=PARTS).replace("%s", f"'{table}'", 1).replace("%%", "%")


@pytest.mark.parametrize("layout", ["customer", "time"])
async def test_payments_on_partitions_keep_every_promise(database: str, tmp_path: Path, layout: str) -> None:
    with running(database, tmp_path, PATIENT) as before:
        open_account(before.dsn, "c_before", 100_000)
        async with before.client() as client, client.post("/api/payments/decide", json=body("c_before", "5.00")) as answer:
            first = await answer.read()
    cut(database, *([by_customer(table) for table in HASHED] if layout == "customer" else [BY_TIME]))
    customers = [f"c_{number}" for number in range(10)]
    with running(database, tmp_path, PATIENT) as service:
        for customer in customers:
            open_account(service.dsn, customer, 10_000)
        async with service.client() as client:
            async with client.post("/api/payments/decide", json=body("c_before", "5.00")) as again:
                assert (await again.read(), again.headers["Idempotent-Replayed"]) == (first, "true"), "what was decided before stays decided"

            async def pay(customer: str, key: str) -> tuple[str, str]:
                async with client.post("/api/payments/decide", json=body(customer, "9.00", key)) as answer:
                    told = await answer.json()
                assert answer.status == 200, told
                return told["paymentId"], told["decision"]

            asked = [(customer, f"k-{n}") for customer in customers for n in range(12)]
            answers = dict(zip(asked, await asyncio.gather(*(pay(*one) for one in asked)), strict=True))
            assert [await pay(*one) for one in asked[:30]] == [answers[one] for one in asked[:30]]
            decisions = [decision for _, decision in answers.values()]
            assert decisions.count("allow") == 11 * len(customers), "each has money for eleven of its twelve"
            allowed = next(payment for payment, decision in answers.values() if decision == "allow")
            assert (await post(client, f"/api/payments/{allowed}/capture"))[0] == 200
            case = await reviewed(client, "c_before", "k-review")
            assert (await post(client, f"/api/cases/{case['caseId']}/approve"))[0] == 200
            async with client.get("/api/payments", params={"limit": "50"}) as page:
                newest = [payment["paymentId"] for payment in (await page.json())["items"]]
            assert newest == sorted(newest, reverse=True)
            async with client.get(f"/api/payments/{allowed}") as found:
                assert (await found.json())["paymentId"] == allowed
        for (customer, _), (payment, _) in answers.items():
            assert UUID(payment).int & 0xFFFF == shard_of(customer)
        assert UUID(case["caseId"]).int & 0xFFFF == shard_of("c_before")
    assert balance(database, "c_9") == (100, 9_900)
    audit(database, tmp_path)
    assert paynow(tmp_path, database, "explain", "--verify", "--all").code == 0


async def test_claim_and_settle_touch_the_partition_of_their_customer_alone(database: str, tmp_path: Path) -> None:
    cut(database, *[by_customer(table) for table in HASHED])
    open_account(database, "c_1", 100_000)
    execute(database, "select pg_stat_reset()")
    with running(database, tmp_path, PATIENT) as service:
        async with service.client() as client:
            for key in ("k-1", "k-2", "k-1"):
                async with client.post("/api/payments/decide", json=body("c_1", "1.00", key)) as answer:
                    assert answer.status == 200
    eventually(lambda: execute(database, "select count(*) from pg_stat_activity where datname = current_database()") == [(1,)])
    for table in HASHED:
        assert execute(database, WRITTEN, rf"^{table}_\d+$") == [(1,)], table
    for table in ("idempotency_keys", "payments", "known_payees"):
        assert execute(database, LOOKED_INTO, rf"^{table}_\d+_pkey$") == [(1,)], table
