"""The queue of cases: filters, orders and cursors, and what counts it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from database import execute
from reviews import REVIEWS, get, in_a_loop_of_its_own, reviewed
from service import RunningService, body, open_account, running
from waiting import eventually_async


@pytest.fixture(scope="module")
def module_environ() -> dict[str, str]:
    return REVIEWS


AMOUNTS = ("20.00", "1500.00", "30.00", "12000.00", "40.00")


@pytest.fixture(scope="module")
def cases(module_service: RunningService) -> list[str]:
    open_account(module_service.dsn, "c_queue", 10_000_000)

    async def make() -> list[str]:
        async with module_service.client() as client:
            return [(await reviewed(client, "c_queue", f"q-{n}", amount))["caseId"] for n, amount in enumerate(AMOUNTS)]

    return in_a_loop_of_its_own(make())


async def test_newest_first_by_default_and_page_by_page(module_service: RunningService, cases: list[str]) -> None:
    assert await pages(module_service, "status=open", limit=2) == cases[::-1]


async def test_in_the_order_of_urgency_the_largest_first_then_as_they_are_due(module_service: RunningService, cases: list[str]) -> None:
    move = "update cases set due_at = due_at + %s * interval '1 hour' where case_id = %s"
    moved = ((100, cases[1]), (-1, cases[4]))
    for hours, case in moved:
        execute(module_service.dsn, move, hours, case)
    try:
        for limit in (1, 2, 50):
            assert await pages(module_service, "order=urgent", limit=limit) == [cases[number] for number in (3, 1, 4, 0, 2)]
    finally:
        for hours, case in moved:
            execute(module_service.dsn, move, -hours, case)


async def test_priority_and_due_time_follow_the_amount(module_service: RunningService, cases: list[str]) -> None:
    async with module_service.client() as client:
        shown = [await get(client, f"/api/cases/{case}") for case in cases]
    told = [(case["priority"], (when(case["dueAt"]) - when(case["openedAt"])) / timedelta(hours=1), case["overdue"]) for case in shown]
    assert told == [(0, 48, False), (1, 24, False), (0, 48, False), (2, 8, False), (0, 48, False)]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("currency=USD&amountMin=1500", [1, 3]),
        ("currency=USD&amountMax=30.00", [0, 2]),
        ("currency=USD&amountMin=30&amountMax=1500", [1, 2, 4]),
        ("currency=EUR", []),
        ("ageMin=1h", []),
        ("ageMax=1h", [0, 1, 2, 3, 4]),
        ("holder=environment", []),
        ("overdue=true", []),
        ("label=unclear", []),
    ],
)
async def test_filters(module_service: RunningService, cases: list[str], query: str, numbers: list[int]) -> None:
    expected = {cases[number] for number in numbers}
    for order in ("newest&status=open", "urgent"):
        assert set(await pages(module_service, f"{query}&order={order}", limit=50)) == expected


async def test_what_is_overdue_is_found_and_counted(module_service: RunningService, cases: list[str]) -> None:
    execute(
        module_service.dsn, "update cases set due_at = now() - interval '1 hour', opened_at = now() - interval '3 hours' where case_id = %s", cases[2]
    )
    assert await pages(module_service, "overdue=true", limit=50) == [cases[2]]
    assert await pages(module_service, "ageMin=2h&order=urgent", limit=50) == [cases[2]]
    async with module_service.client() as client:

        async def counted() -> bool:
            async with client.get("/metrics") as response:
                text = await response.text()
            values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("paynow_cases_"))
            return (float(values["paynow_cases_waiting"]), float(values["paynow_cases_overdue"])) == (5, 1) and float(
                values["paynow_cases_oldest_seconds"]
            ) >= 3 * 3600

        await eventually_async(counted, within_s=20)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=closed", "status"),
        ("amountMin=5", "currency"),
        ("amountMin=-5&currency=USD", "amountMin"),
        ("amountMin=0.001&currency=USD", "amountMin"),
        ("currency=usd", "currency"),
        ("ageMin=2", "ageMin"),
        ("ageMax=999999999d", "ageMax"),
        ("overdue=yes", "overdue"),
        ("order=urgent&status=declined", "order"),
        ("order=urgent&cursor=bm9uZQ", "cursor"),
        ("holder=PN", "holder"),
        ("label=fraud", "label"),
    ],
)
async def test_a_wrong_filter_is_named(module_service: RunningService, query: str, field: str) -> None:
    async with module_service.client() as client, client.get(f"/api/cases?{query}") as response:
        problem = await response.json(content_type=None)
    assert (response.status, [fault["field"] for fault in problem["errors"]]) == (400, [field])


async def pages(service: RunningService, query: str, *, limit: int) -> list[str]:
    found: list[str] = []
    cursor = ""
    async with service.client() as client:
        while cursor is not None:
            page = await get(client, f"/api/cases?{query}&limit={limit}{cursor and '&cursor=' + cursor}")
            found += [case["caseId"] for case in page["items"]]
            cursor = page["nextCursor"]
    return found


def when(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


async def test_what_the_rules_score_makes_a_case_more_urgent(database: str, tmp_path: Path) -> None:
    (tmp_path / "scored.toml").write_text(SCORED)
    environ = {"PAYNOW_POLICY__FILE": str(tmp_path / "scored.toml"), "PAYNOW_CASES__SCORE_BANDS": "[50, 70]", "PAYNOW_CASES__AMOUNT_BANDS": "[]"}
    open_account(database, "c_1", 1_000_000)
    with running(database, tmp_path, environ) as service:
        async with service.client() as client:
            for key, amount in (("k-40", "1.00"), ("k-60", "10.00"), ("k-80", "100.00")):
                async with client.post("/api/payments/decide", json=body("c_1", amount, key)) as response:
                    assert (await response.json())["decision"] == "review"
    priorities = "select c.priority from cases c join payments p using (customer_id, payment_id) order by p.amount_minor"
    assert execute(database, priorities) == [(0,), (1,), (2,)]


SCORED = """
[thresholds]
review = 40
[[rule]]
id = "any"
when = "payment.amount_minor > 0"
score = 40
message = "Any"
[[rule]]
id = "ten"
when = "payment.amount_minor >= 1000"
score = 20
message = "Ten"
[[rule]]
id = "hundred"
when = "payment.amount_minor >= 10000"
score = 20
message = "Hundred"
"""
