"""What follows a decision: its reservation ends once, pages show it, events tell it, and a revoked key sees nothing of it."""

from __future__ import annotations

from collections import defaultdict

import jsonschema
import pytest

from commands import paynow
from database import execute
from paynow.http.schemas import DecisionSchema
from service import UNLIMITED, RunningService, audit, balance, body, open_account, running
from waiting import eventually, eventually_async


async def decided(client, **changes) -> dict:
    async with client.post("/api/payments/decide", json=body(**changes)) as response:
        assert response.status == 200
        return await response.json()


@pytest.mark.parametrize(("end", "state", "money"), [("capture", "captured", (9_900, 0)), ("release", "released", (10_000, 0))])
async def test_a_reservation_ends_once_and_only_one_way(service: RunningService, tmp_path, end: str, state: str, money: tuple) -> None:
    open_account(service.dsn, "c_1", 10_000)
    async with service.client() as client:
        path = f"/api/payments/{(await decided(client))['paymentId']}"
        async with client.post(f"{path}/{end}") as first, client.post(f"{path}/{end}") as again:
            assert (first.status, again.status) == (200, 200)
            assert await first.read() == await again.read()
        async with client.post(f"{path}/{'release' if end == 'capture' else 'capture'}") as other:
            assert (other.status, (await other.json(content_type=None))["code"]) == (409, "reservation_ended")
        async with client.get(path) as shown:
            assert (await shown.json())["reservation"]["status"] == state
    assert balance(service.dsn, "c_1") == money
    assert execute(service.dsn, "select event_seq from customers where customer_id = 'c_1'") == [(2,)]
    audit(service.dsn, tmp_path)


async def test_a_reservation_that_nobody_ends_expires_and_the_money_goes_back(database: str, tmp_path) -> None:
    open_account(database, "c_1", 10_000)
    with running(database, tmp_path, {**UNLIMITED, "PAYNOW_RESERVATIONS__TTL": "1s"}) as service:
        async with service.client() as client:
            payment_id = (await decided(client))["paymentId"]
            eventually(lambda: balance(database, "c_1") == (10_000, 0), within_s=15)
            async with client.post(f"/api/payments/{payment_id}/capture") as late:
                assert late.status == 409
    audit(database, tmp_path)


async def test_a_blocked_payment_holds_nothing_to_capture(module_service: RunningService) -> None:
    async with module_service.client() as client:
        blocked = await decided(client, customer_id="c_poor")
        assert (blocked["decision"], blocked["reservation"]) == ("block", None)
        async with client.post(f"/api/payments/{blocked['paymentId']}/capture") as response:
            assert (response.status, (await response.json(content_type=None))["code"]) == (409, "not_reserved")


async def test_pages_lead_through_all_payments_newest_first(module_service: RunningService) -> None:
    open_account(module_service.dsn, "c_pages", 10_000)
    async with module_service.client() as client:
        made = [(await decided(client, customer_id="c_pages", key=f"k-{number}"))["paymentId"] for number in range(5)]
        seen, cursor = [], ""
        while cursor is not None:
            async with client.get(f"/api/payments?customerId=c_pages&limit=2{cursor and '&cursor=' + cursor}") as response:
                page = await response.json()
            seen += [item["paymentId"] for item in page["items"]]
            cursor = page["nextCursor"]
        assert seen == made[::-1]


async def test_every_decision_has_its_event_in_the_customers_sequence(module_service: RunningService) -> None:
    open_account(module_service.dsn, "c_events", 10_000)
    async with module_service.client() as client:
        made = [(await decided(client, customer_id="c_events", key=f"k-{number}"))["paymentId"] for number in range(3)]

        async def told() -> list[dict]:
            async with client.get("/api/events/recent?limit=200") as response:
                events = [event for event in (await response.json())["items"] if event["data"]["customerId"] == "c_events"]
            return events if len(events) == len(made) else []

        events = (await eventually_async(told))[::-1]
    assert [event["subject"] for event in events] == made
    assert [int(event["sequence"]) for event in events] == [1, 2, 3]
    assert {event["type"] for event in events} == {"paynow.payment.decided"}


async def test_a_service_without_sinks_says_that_its_outbox_will_grow(database: str, tmp_path) -> None:
    with running(database, tmp_path, {"PAYNOW_EVENTS__SINKS": "[]"}) as service:
        (line,) = service.lines("no event sink is configured, events wait in the outbox until a service with sinks relays them")
    assert line["level"] == "WARNING"


async def test_a_key_does_what_its_scopes_say_until_it_is_revoked(module_service: RunningService, tmp_path) -> None:
    open_account(module_service.dsn, "c_key", 10_000)
    made = paynow(tmp_path, module_service.dsn, "keys", "create", "--name", "reader", "--scopes", "accounts:read", "--json").json()
    async with module_service.client(**{"X-API-Key": made["key"]}) as client:
        async with client.get("/api/accounts/c_key") as response:
            assert response.status == 200
        async with client.post("/api/payments/decide", json=body("c_key")) as response:
            assert (response.status, (await response.json(content_type=None))["code"]) == (403, "missing_scope")
        assert paynow(tmp_path, module_service.dsn, "keys", "revoke", made["id"]).code == 0

        async def refused() -> bool:
            async with client.get("/api/accounts/c_key") as response:
                return response.status == 401

        await eventually_async(refused, within_s=10)


async def test_nothing_but_the_documents_and_the_probes_is_open(module_service: RunningService) -> None:
    from paynow.http.routing import ROUTES

    async with module_service.client(**{"X-API-Key": ""}) as client:
        for route in ROUTES:
            async with client.request(route.method, route.path.format_map(defaultdict(lambda: "x", code="not_found"))) as response:
                assert (response.status == 401) == (route.scope is not None), route


@pytest.mark.parametrize(("amount", "customer", "decision"), [("1.00", "c_form", "allow"), ("5000.00", "c_form", "block")])
async def test_what_is_answered_has_the_documented_form(module_service: RunningService, amount: str, customer: str, decision: str) -> None:
    open_account_once(module_service.dsn, customer)
    async with module_service.client() as client:
        async with client.get("/api/openapi.json") as response:
            document = await response.json()
        answer = await decided(client, customer_id=customer, amount=amount, key=amount)
        async with client.get(f"/api/payments/{answer['paymentId']}") as response:
            stored = await response.json()
    assert answer["decision"] == decision
    for route, shown in (("/api/payments/decide", answer), ("/api/payments/{paymentId}", stored)):
        form = next(iter(document["paths"][route].values()))["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(shown, {**form, "components": document["components"]}, jsonschema.Draft202012Validator)
    assert DecisionSchema().validate(answer) == {}, "no name that the document lacks"


def open_account_once(dsn: str, customer_id: str) -> None:
    if not execute(dsn, "select 1 from accounts where customer_id = %s", customer_id):
        open_account(dsn, customer_id, 10_000)
