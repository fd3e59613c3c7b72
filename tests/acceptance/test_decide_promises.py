"""One decision a key, money that adds up: through HTTP, many at once, in one process and in two."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack, ExitStack

import aiohttp
import pytest

from database import execute
from service import UNLIMITED, RunningService, audit, balance, body, open_account, running
from waiting import eventually_async

AT_ONCE = 50
ROUNDS = 20
WHOLE_BALANCE_ROUNDS = 5
PATIENT = {"PAYNOW_DATABASE__ACQUIRE_TIMEOUT_MS": "5000"}
"""A busy machine may take longer over a customer's fifty settles, one behind the other, than requests wait for a connection by default: 503."""


async def decide(client: aiohttp.ClientSession, document: dict) -> tuple[int, bytes, bool]:
    async with client.post("/api/payments/decide", json=document) as response:
        return response.status, await response.read(), response.headers.get("Idempotent-Replayed") == "true"


async def assert_decided_once(clients: list[aiohttp.ClientSession], document: dict) -> None:
    answers = await asyncio.gather(*(decide(clients[number % len(clients)], document) for number in range(AT_ONCE)))
    assert Counter(status for status, _, _ in answers) == {200: AT_ONCE}
    assert len({answer for _, answer, _ in answers}) == 1
    assert sum(replayed for _, _, replayed in answers) == AT_ONCE - 1


def assert_debited_once_a_round(dsn: str) -> None:
    """Money, ledger, payments and the customer's sequence of events: each moved once a round."""
    assert balance(dsn, "c_1") == (100_000 - 100 * ROUNDS, 100 * ROUNDS)
    assert execute(dsn, "select count(*), sum(available_change) from ledger_entries where kind = 'reserve'")[0] == (ROUNDS, -100 * ROUNDS)
    assert execute(dsn, "select count(*), count(distinct payment_id) from payments")[0] == (ROUNDS, ROUNDS)
    assert execute(dsn, "select event_seq from customers where customer_id = 'c_1'")[0][0] == ROUNDS


async def events_delivered(client: aiohttp.ClientSession, number: int) -> list[dict]:
    """The events that the memory sink took, once there are as many; a page more would show."""
    async with client.get("/api/events/recent?limit=100") as response:
        items = (await response.json())["items"]
    assert len(items) <= number
    return items if len(items) == number else []


async def test_fifty_at_once_with_one_key_get_one_decision(service: RunningService, tmp_path) -> None:
    open_account(service.dsn, "c_1", 100_000)
    async with service.client() as client:
        for number in range(ROUNDS):
            await assert_decided_once([client], body("c_1", "1.00", f"k-{number}"))
        delivered = await eventually_async(lambda: events_delivered(client, ROUNDS))
    assert len({event["data"]["paymentId"] for event in delivered}) == ROUNDS
    assert_debited_once_a_round(service.dsn)
    audit(service.dsn, tmp_path)


async def test_fifty_at_once_with_one_key_over_two_processes_get_one_decision(database: str, tmp_path) -> None:
    open_account(database, "c_1", 100_000)
    with ExitStack() as servers:
        services = [servers.enter_context(running(database, tmp_path, UNLIMITED)) for _ in range(2)]
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(service.client()) for service in services]
            for number in range(ROUNDS):
                await assert_decided_once(clients, body("c_1", "1.00", f"k-{number}"))
    assert_debited_once_a_round(database)
    audit(database, tmp_path)


async def test_fifty_at_once_for_the_whole_balance_reserve_it_once(database: str, tmp_path) -> None:
    with running(database, tmp_path, {**UNLIMITED, **PATIENT}) as service:
        await assert_reserved_once_a_round(service)
    audit(database, tmp_path)


async def assert_reserved_once_a_round(service: RunningService) -> None:
    async with service.client() as client:
        for number in range(WHOLE_BALANCE_ROUNDS):
            customer = f"c_{number}"
            open_account(service.dsn, customer, 10_000)
            answers = await asyncio.gather(*(decide(client, body(customer, "100.00", f"k-{key}")) for key in range(AT_ONCE)))
            assert Counter(status for status, _, _ in answers) == {200: AT_ONCE}, {text for status, text, _ in answers if status != 200}
            decisions = [json.loads(text) for _, text, _ in answers]
            assert Counter(decision["decision"] for decision in decisions) == {"allow": 1, "block": AT_ONCE - 1}
            blocked = [decision for decision in decisions if decision["decision"] == "block"]
            assert all("insufficient_funds" in [reason["code"] for reason in decision["reasons"]] for decision in blocked)
            assert balance(service.dsn, customer) == (0, 10_000)


async def test_another_body_under_the_same_key_is_refused_and_told_nothing(module_service: RunningService) -> None:
    open_account(module_service.dsn, "c_mismatch", 10_000)
    async with module_service.client() as client:
        await decide(client, body("c_mismatch", "1.00", "k-1"))
        status, answer, replayed = await decide(client, body("c_mismatch", "2.00", "k-1"))
    assert (status, replayed) == (422, False)
    assert b"idempotency_mismatch" in answer
    assert b"1.00" not in answer
    assert balance(module_service.dsn, "c_mismatch") == (9_900, 100)


@pytest.mark.parametrize("amount", ["125.5", "125.50", 125.5, "125.500"])
async def test_the_same_amount_written_otherwise_is_the_same_payment(module_service: RunningService, amount: object) -> None:
    customer = f"c_same_{str(amount).replace('.', '_')}_{type(amount).__name__}"
    open_account(module_service.dsn, customer, 100_000)
    async with module_service.client() as client:
        _, first, _ = await decide(client, body(customer, "125.50"))
        assert await decide(client, body(customer, amount)) == (200, first, True)


async def test_the_key_may_come_as_a_header(module_service: RunningService) -> None:
    open_account(module_service.dsn, "c_header", 10_000)
    async with module_service.client() as client:
        _, first, _ = await decide(client, body("c_header", "1.00", "k-h"))
        for key in ("k-h", '"k-h"'):
            async with client.post("/api/payments/decide", json=body("c_header", "1.00", None), headers={"Idempotency-Key": key}) as response:
                assert await response.read() == first
