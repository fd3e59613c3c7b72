"""Processes and databases that die under load: nothing half done, nothing left hanging, nothing said that is not so."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from contextlib import suppress

import aiohttp

from database import OwnServer, execute
from paynow.store import migrations
from service import UNLIMITED, RunningService, audit, body, open_account
from waiting import eventually, meanwhile

KILLS = 10
CUSTOMERS = 20
LEASE = {"PAYNOW_IDEMPOTENCY__LEASE_S": "4"}


async def send_until(service: RunningService, stop: asyncio.Event, keys: itertools.count, answered: dict[str, bytes], statuses: list) -> None:
    """Sends one payment after another; keeps every 200 by its key, and what else came with its seconds."""
    async with service.client() as client:
        while not stop.is_set():
            key = f"k-{next(keys)}"
            began = time.monotonic()
            try:
                async with client.post("/api/payments/decide", json=request_of(key)) as response:
                    answer = await response.read()
                    statuses.append((response.status, time.monotonic() - began))
                    if response.status == 200:
                        answered[key] = answer
                    else:
                        await asyncio.sleep(0)
            except aiohttp.ClientError:
                return


def request_of(key: str) -> dict:
    return body(f"c_{int(key.split('-')[1]) % CUSTOMERS}", "0.01", key)


async def test_killed_ten_times_under_load_every_key_has_one_decision(database: str, tmp_path) -> None:
    for number in range(CUSTOMERS):
        open_account(database, f"c_{number}", 10_000_000)
    keys, answered = itertools.count(), {}
    for _ in range(KILLS):
        service = RunningService(database, tmp_path, {**UNLIMITED, **LEASE})
        stop, before = asyncio.Event(), len(answered)
        senders = [asyncio.create_task(send_until(service, stop, keys, answered, [])) for _ in range(12)]
        await meanwhile(lambda before=before: len(answered) > before + 30, within_s=30)
        service.kill()
        await asyncio.gather(*senders)
    processing = "select count(*) from idempotency_keys where state = 'processing'"
    service = RunningService(database, tmp_path, {**UNLIMITED, **LEASE})
    try:
        eventually(lambda: execute(database, processing)[0][0] == 0, within_s=64)
        async with service.client() as client:
            for key, answer in answered.items():
                async with client.post("/api/payments/decide", json=request_of(key)) as response:
                    assert (response.status, await response.read()) == (200, answer)
                    assert response.headers["Idempotent-Replayed"] == "true"
            for key in {f"k-{number}" for number in range(next(keys))} - answered.keys():
                async with client.post("/api/payments/decide", json=request_of(key)) as response:
                    assert response.status == 200
    finally:
        assert service.stop() == 0
    decided = execute(database, "select count(*), count(distinct payment_id) from idempotency_keys where state = 'decided'")[0]
    assert decided[0] == decided[1] == execute(database, "select count(*) from payments")[0][0]
    audit(database, tmp_path)


async def test_postgresql_stopped_immediately_under_load_gives_503_only_and_comes_back(own_server: OwnServer, tmp_path) -> None:
    migrations.migrate(own_server.dsn)
    for number in range(CUSTOMERS):
        open_account(own_server.dsn, f"c_{number}", 10_000_000)
    service = RunningService(own_server.dsn, tmp_path, {**UNLIMITED, **LEASE})
    try:
        stop, keys, answered, statuses = asyncio.Event(), itertools.count(), {}, []
        senders = [asyncio.create_task(send_until(service, stop, keys, answered, statuses)) for _ in range(12)]
        await meanwhile(lambda: len(answered) > 50, within_s=30)
        await asyncio.to_thread(own_server.stop_immediate)
        seen = len(statuses)
        await meanwhile(lambda: len(statuses) > seen + 60, within_s=30)
        async with service.client() as client, client.get("/readyz") as response:
            assert response.status == 503
        await asyncio.to_thread(own_server.start)
        back = time.monotonic()
        count = len(answered)
        await meanwhile(lambda: len(answered) > count + 50, within_s=5)
        assert time.monotonic() - back < 5
        stop.set()
        await asyncio.gather(*senders)
        assert Counter(status for status, _ in statuses).keys() == {200, 503}
        assert max(seconds for _, seconds in statuses) < 3
        eventually(lambda: execute(own_server.dsn, "select count(*) from idempotency_keys where state = 'processing'")[0][0] == 0, within_s=64)
        async with service.client() as client:
            for key in (f"k-{number}" for number in range(next(keys))):
                async with client.post("/api/payments/decide", json=request_of(key)) as response:
                    assert response.status == 200
                    assert key not in answered or await response.read() == answered[key]
    finally:
        with suppress(AssertionError):
            own_server.start()
        assert service.stop() == 0
    audit(own_server.dsn, tmp_path)


async def test_readiness_goes_red_first_and_requests_are_taken_until_the_drain_is_over(database: str, tmp_path) -> None:
    open_account(database, "c_1", 10_000)
    service = RunningService(database, tmp_path, {**UNLIMITED, "PAYNOW_SERVER__DRAIN_S": "2"})
    ended = asyncio.create_task(asyncio.to_thread(service.stop))
    await meanwhile(lambda: service.lines("draining"))
    async with service.client() as client:
        async with client.get("/readyz") as response:
            assert (response.status, await response.json()) == (503, {"status": "stopping"})
        async with client.post("/api/payments/decide", json=body("c_1")) as response:
            assert response.status == 200
    assert await ended == 0


async def test_sigterm_lets_what_is_under_way_finish(plugin_service) -> None:
    slow = """
import asyncio
from paynow.plugin_api import Effect, Tool, flag, hookimpl

async def slow(context):
    context.log.bind(tool="slow").info("slow tool waits")
    await asyncio.sleep(1)
    return {"done": True}

@hookimpl
def paynow_register_tools(settings):
    return [Tool("slow", Effect.READ, {"done": flag()}, slow)]
"""
    config = """
[plugins]
dirs = ["plugins"]
enabled = ["get_balance", "get_risk_signals", "create_case", "slow"]
[agent]
plan = ["getBalance", "getRiskSignals", "slow"]
[agent.tools.slow]
timeout_ms = 1800
"""
    service = plugin_service({"slow": slow}, config)
    open_account(service.dsn, "c_1", 10_000)
    async with service.client() as client:
        sending = asyncio.create_task(client.post("/api/payments/decide", json=body("c_1")))
        await meanwhile(lambda: service.lines("slow tool waits"))
        ended = asyncio.create_task(asyncio.to_thread(service.stop))
        response = await sending
        assert response.status == 200
        assert (await response.json())["decision"] == "allow"
        assert await ended == 0
