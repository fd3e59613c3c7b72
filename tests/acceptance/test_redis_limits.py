"""The customers' limit in a real Redis: kept over machines, and when Redis is away, what the configuration says, at once."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from commands import paynow
from database import execute
from servers.redis import RedisServer
from service import UNLIMITED, RunningService, audit, body, open_account, running
from waiting import eventually, meanwhile

HAMMERED_S = float(os.environ.get("PAYNOW_TEST_HAMMERED_S", "5"))
"""How long one customer is hammered; 30 for the whole check."""
SENDERS = 4
BURST = 5
ROUNDS = 5
AT_ONCE = 12
NEVER_SLOWER_S = 1.0
PATIENT = {"PAYNOW_RATE_LIMIT__REDIS_TIMEOUT_MS": "200"}
"""As patient as it can be made, and never slower than that all the same."""

DOWN, BACK = "the rate limiter's store is down", "the rate limiter's store is back"


def in_redis(server: RedisServer, **changes: str) -> dict[str, str]:
    return {**UNLIMITED, "REDIS_URL": server.url, "PAYNOW_RATE_LIMIT__BACKEND": "redis", **PATIENT, **changes}


@dataclass(frozen=True, slots=True)
class Sent:
    """An answer, and when its request began and ended."""

    status: int
    code: str | None
    replayed: bool
    body: bytes
    began: float
    ended: float


async def send(client: aiohttp.ClientSession, document: dict[str, Any]) -> Sent:
    began = time.monotonic()
    async with client.post("/api/payments/decide", json=document) as response:
        told = await response.read()
        replayed = response.headers.get("Idempotent-Replayed") == "true"
        return Sent(response.status, json.loads(told).get("code"), replayed, told, began, time.monotonic())


# ---------------------------------------------------------------- when Redis is away


@pytest.mark.parametrize("action", ["deny", "local"])
async def test_redis_stopped_and_hanging_under_load_is_what_the_configuration_says_and_holds_nobody_up(
    database: str, tmp_path: Path, redis_server: RedisServer, action: str
) -> None:
    limits = {"PAYNOW_RATE_LIMIT__CUSTOMER": "1/m", "PAYNOW_RATE_LIMIT__BURST": "3", "PAYNOW_RATE_LIMIT__ON_STORE_FAILURE": action}
    without_redis = (503, "limiter_unavailable") if action == "deny" else (200, None)
    numbers, sent, stop = itertools.count(), [], asyncio.Event()
    with running(database, tmp_path, in_redis(redis_server, **limits)) as service:

        async def send_until_stopped() -> None:
            """New customers all the time, so that nobody meets a limit."""
            async with service.client() as client:
                while not stop.is_set():
                    number = next(numbers)
                    sent.append(await send(client, body(f"c_{number}", "0.01", f"k-{number}")))

        async def some_more(count: int = 100) -> list[Sent]:
            """Of those who begin from now on."""
            since = time.monotonic()
            return await meanwhile(lambda: found if len(found := [one for one in sent if one.began > since]) > count else [], within_s=30)

        senders = [asyncio.create_task(send_until_stopped()) for _ in range(SENDERS)]
        assert {(one.status, one.code) for one in await some_more()} == {(200, None)}
        async with service.client() as client:
            for go_away, come_back in ((redis_server.stop, redis_server.start), (redis_server.pause, redis_server.resume)):
                known = await send(client, body("c_known", "0.01", "k-known"))
                await asyncio.to_thread(go_away)
                await meanwhile(lambda: "paynow_limiter_down 1.0" if sent[-1].status == without_redis[0] else "", within_s=5)
                assert {(one.status, one.code) for one in await some_more(20)} == {without_redis}
                again = await send(client, body("c_known", "0.01", "k-known"))
                assert (again.status, again.replayed, again.body) == (200, True, known.body), "a known key asks no limiter"
                several = await asyncio.gather(*(send(client, body(f"c_local_{go_away.__name__}", "0.01", f"k-{n}")) for n in range(8)))
                expected = {503: 8} if action == "deny" else {200: 3, 429: 5}
                assert Counter(one.status for one in several) == expected
                async with client.get("/readyz") as response:
                    assert (response.status, await response.json()) == (200, {"status": "ok", "rateLimit": action})
                assert "paynow_limiter_down 1.0" in await metrics(client)
                await asyncio.to_thread(come_back)
                await meanwhile(lambda: len(service.lines(BACK)) > 0 and len(service.lines(BACK)) == len(service.lines(DOWN)), within_s=10)
                assert {(one.status, one.code) for one in await some_more()} == {(200, None)}
                async with client.get("/readyz") as response:
                    assert (await response.json())["rateLimit"] == "ok"
            told = await metrics(client)
            assert "paynow_limiter_down 0.0" in told
            failures = float(re.search(rf'paynow_limiter_failures_total{{action="{action}"}} (\S+)', told)[1])
        stop.set()
        await asyncio.gather(*senders)
        assert failures > 30
        assert 2 <= len(service.lines(DOWN)) < 8, "told when it changes, not with each request"
        assert {(line["backend"], line["action"]) for line in service.lines(DOWN)} == {("redis", action)}
        assert max(one.ended - one.began for one in sent) < NEVER_SLOWER_S
    audit(database, tmp_path)


async def metrics(client: aiohttp.ClientSession) -> str:
    async with client.get("/metrics") as response:
        return await response.text()


async def test_a_redis_that_is_away_at_the_start_keeps_no_service_from_starting(database: str, tmp_path: Path) -> None:
    with running(database, tmp_path, {**UNLIMITED, "REDIS_URL": "redis://127.0.0.1:1", "PAYNOW_RATE_LIMIT__BACKEND": "redis"}) as service:
        async with service.client() as client, client.get("/readyz") as response:
            assert response.status == 200


def test_a_redis_that_is_not_named_stops_the_boot(database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "config", "check", PAYNOW_RATE_LIMIT__BACKEND="redis")
    assert ended.code == 2
    assert "plugin limiter_redis: paynow_register_rate_limiters failed: ValueError: REDIS_URL is not set" in ended.err


# ---------------------------------------------------------------- over machines


@pytest.fixture
def two_services(database: str, tmp_path: Path, redis_server: RedisServer) -> Iterator[list[RunningService]]:
    """Two of two workers each, which share a database and a Redis, for limits and events."""
    environ = in_redis(redis_server, PAYNOW_RATE_LIMIT__CUSTOMER="5/s", PAYNOW_RATE_LIMIT__BURST=str(BURST), PAYNOW_EVENTS__SINKS="redis_streams")
    with ExitStack() as stack, ThreadPoolExecutor() as starting:
        both = [running(database, tmp_path, environ, arguments=("--workers", "2")) for _ in range(2)]
        yield list(starting.map(stack.enter_context, both))


async def test_two_services_of_two_workers_keep_one_limit_and_decide_each_key_once(
    two_services: list[RunningService], redis_server: RedisServer, tmp_path: Path
) -> None:
    dsn = two_services[0].dsn
    open_account(dsn, "c_1", 1_000_000)
    sent, stop, keys = [], asyncio.Event(), itertools.count()

    async def hammer(service: RunningService) -> None:
        async with service.client() as client:
            while not stop.is_set():
                sent.append(await send(client, body("c_1", "0.01", f"k-{next(keys)}")))
                await asyncio.sleep(0.01)

    senders = [asyncio.create_task(hammer(service)) for service in two_services * SENDERS]
    await meanwhile(lambda: len([one for one in sent if one.status == 200]) >= BURST)
    began = time.monotonic()
    await asyncio.sleep(HAMMERED_S)
    ended = time.monotonic()
    stop.set()
    await asyncio.gather(*senders)
    allowed = [one for one in sent if one.status == 200 and began < one.ended <= ended]
    assert Counter((one.status, one.code) for one in sent).keys() == {(200, None), (429, "rate_limited")}
    assert len(allowed) / (ended - began) == pytest.approx(5, rel=0.1)
    assert {line["worker"] for service in two_services for line in service.lines("payment decided")} == {1, 2}

    for number in range(ROUNDS):
        open_account(dsn, f"c_round_{number}", 1_000)
        async with Clients(two_services) as clients:
            answers = await asyncio.gather(*(send(client, body(f"c_round_{number}", "1.00", "k-1")) for client in clients * AT_ONCE))
        assert {one.status for one in answers} == {200}
        assert len({one.body for one in answers}) == 1
        assert sum(not one.replayed for one in answers) == 1

    payments = execute(dsn, "select count(*) from payments")[0][0]
    assert payments == sum(one.status == 200 for one in sent) + ROUNDS
    assert_every_payment_has_its_event(redis_server, payments)
    audit(dsn, tmp_path)


class Clients:
    """A client for each service, with connections of their own, which the system spreads over the workers."""

    def __init__(self, services: list[RunningService]) -> None:
        self._clients = [service.client() for service in services]

    async def __aenter__(self) -> list[aiohttp.ClientSession]:
        return self._clients

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.close()


def assert_every_payment_has_its_event(server: RedisServer, payments: int) -> None:
    def events() -> dict[str, dict[str, Any]]:
        """By id, as first seen."""
        found: dict[str, dict[str, Any]] = {}
        for _, fields in server.call("XRANGE", "paynow.events", "-", "+"):
            found.setdefault(fields["id"], json.loads(fields["event"]))
        return found

    eventually(lambda: len(events()) >= payments, within_s=10)
    sequences: dict[str, list[int]] = {}
    for event in events().values():
        sequences.setdefault(event["data"]["customerId"], []).append(int(event["sequence"]))
    assert sum(map(len, sequences.values())) == payments
    assert all(sequence == sorted(sequence) for sequence in sequences.values())
