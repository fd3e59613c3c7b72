"""Processes and databases that die under load: nothing half done, nothing left hanging, nothing said that is not so."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import suppress
from dataclasses import dataclass

import aiohttp

import patience
from database import OwnServer, execute
from paynow.store import migrations
from service import UNLIMITED, RunningService, audit, body, open_account
from waiting import eventually, meanwhile

KILLS = 10
RESTARTS = 3
ASK_AT_ONCE = 12
CUSTOMERS = 20
OPENING_MINOR = 10_000_000
LEASE_S = 4
LEASE = {"PAYNOW_IDEMPOTENCY__LEASE_S": str(LEASE_S)}
PROCESSING = "select count(*), coalesce(max(extract(epoch from clock_timestamp() - lease_until)), 0) from idempotency_keys where state = 'processing'"
BROKEN = 0
"""The status of a request whose connection broke."""


@dataclass(frozen=True, slots=True)
class Answered:
    """How a request ended, and when it was sent and answered."""

    status: int
    began: float
    ended: float


async def send_until(service: RunningService, stop: asyncio.Event, keys: itertools.count, answered: dict[str, bytes], seen: list[Answered]) -> None:
    """Sends one payment after another; keeps every 200 by its key, and how every request ended. Goes when the service is gone."""
    async with service.client() as client:
        while not stop.is_set():
            key = f"k-{next(keys)}"
            began = time.monotonic()
            try:
                async with client.post("/api/payments/decide", json=request_of(key)) as response:
                    answer = await response.read()
                    status = response.status
            except aiohttp.ClientError:
                status = BROKEN
            seen.append(Answered(status, began, time.monotonic()))
            if status == 200:
                answered[key] = answer
            elif status == BROKEN and service.process.poll() is not None:
                return


def request_of(key: str) -> dict:
    return body(f"c_{int(key.split('-')[1]) % CUSTOMERS}", "0.01", key)


async def test_killed_ten_times_under_load_every_key_has_one_decision(database: str, tmp_path) -> None:
    for number in range(CUSTOMERS):
        open_account(database, f"c_{number}", OPENING_MINOR)
    keys, answered, seen = itertools.count(), {}, []
    for _ in range(KILLS):
        service = RunningService(database, tmp_path, {**UNLIMITED, **LEASE})
        stop, before = asyncio.Event(), len(answered)
        senders = [asyncio.create_task(send_until(service, stop, keys, answered, seen)) for _ in range(12)]
        await meanwhile(lambda before=before: len(answered) > before + 30, within_s=30)
        service.kill()
        await asyncio.gather(*senders)
    assert {one.status for one in seen} == {200, BROKEN}
    assert execute(database, PROCESSING)[0][0] > 0, "nothing was killed in the middle"
    service = RunningService(database, tmp_path, {**UNLIMITED, **LEASE})
    try:
        assert_no_claim_outlives_its_lease_by_a_minute(database)
        await ask_again(service, next(keys), answered)
    finally:
        assert service.stop() == 0
    assert_each_key_moved_its_cent_once(database)
    audit(database, tmp_path)


async def ask_again(service: RunningService, number: int, answered: dict[str, bytes]) -> None:
    """Asks for every key that was ever sent: what was answered comes again, byte for byte, and everything else is decided now if it was not."""
    left = iter(range(number))

    async def ask(client: aiohttp.ClientSession) -> None:
        for key in (f"k-{one}" for one in left):
            async with client.post("/api/payments/decide", json=request_of(key)) as response:
                answer = await response.read()
                assert response.status == 200
                if key in answered:
                    assert (answer, response.headers.get("Idempotent-Replayed")) == (answered[key], "true")

    async with service.client() as client, asyncio.TaskGroup() as asking:
        for _ in range(ASK_AT_ONCE):
            asking.create_task(ask(client))


def assert_no_claim_outlives_its_lease_by_a_minute(dsn: str) -> None:
    """Waits until none is left, and looks all the while how long the oldest has been over."""

    def none_left() -> bool:
        count, over_s = execute(dsn, PROCESSING)[0]
        assert over_s < 60
        return count == 0

    eventually(none_left, within_s=LEASE_S + 60)


def assert_each_key_moved_its_cent_once(dsn: str) -> None:
    """One decision, one ledger entry and one event a key, and each customer's money is less by as many cents as there are keys of it."""
    keys, distinct = execute(dsn, "select count(*), count(distinct payment_id) from idempotency_keys where state = 'decided'")[0]
    assert keys == distinct == execute(dsn, "select count(*) from payments where decision = 'allow'")[0][0]
    assert execute(dsn, "select count(*), coalesce(sum(reserved_change), 0) from ledger_entries where kind = 'reserve'")[0] == (keys, keys)
    rows = execute(
        dsn,
        "select a.available, a.reserved, c.event_seq, (select count(*) from idempotency_keys k where k.customer_id = a.customer_id) "
        "from accounts a join customers c using (customer_id)",
    )
    assert [(available, reserved, events) for available, reserved, events, _ in rows] == [(OPENING_MINOR - own, own, own) for _, _, _, own in rows]
    assert sum(own for _, _, _, own in rows) == keys


async def test_postgresql_stopped_immediately_under_load_gives_503_only_and_comes_back(own_server: OwnServer, tmp_path) -> None:
    migrations.migrate(own_server.dsn)
    for number in range(CUSTOMERS):
        open_account(own_server.dsn, f"c_{number}", OPENING_MINOR)
    service = RunningService(own_server.dsn, tmp_path, {**UNLIMITED, **LEASE})
    try:
        stop, keys, answered, seen = asyncio.Event(), itertools.count(), {}, []
        senders = [asyncio.create_task(send_until(service, stop, keys, answered, seen)) for _ in range(12)]
        for _ in range(RESTARTS):
            count = len(answered)
            await meanwhile(lambda count=count: len(answered) > count + 50, within_s=30)
            await asyncio.to_thread(own_server.stop_immediate)
            down = time.monotonic()
            count = len(seen)
            await meanwhile(lambda count=count: len(seen) > count + 60, within_s=30)
            async with service.client() as client, client.get("/readyz") as response:
                assert response.status == 503
            before = time.monotonic()
            await asyncio.to_thread(own_server.start)
            back, count = time.monotonic(), len(answered)
            await meanwhile(lambda count=count: len(answered) > count + 50, within_s=5)
            assert time.monotonic() - back < 5
            assert {one.status for one in seen if one.began > down and one.ended < before} == {503}
            restarted = time.monotonic()
            await meanwhile(lambda since=restarted: len([one for one in seen if one.began > since]) > 200, within_s=10)
            assert {one.status for one in seen if one.began > restarted} == {200}, "a dead connection was handed out"
        stop.set()
        await asyncio.gather(*senders)
        assert {one.status for one in seen} == {200, 503}
        assert max(one.ended - one.began for one in seen) < 3
        assert service.process.poll() is None
        assert_no_claim_outlives_its_lease_by_a_minute(own_server.dsn)
        await ask_again(service, next(keys), answered)
    finally:
        with suppress(AssertionError):
            own_server.start()
        assert service.stop() == 0
    assert_each_key_moved_its_cent_once(own_server.dsn)
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


async def test_sigterm_lets_what_is_under_way_finish(plugin_service, tmp_path) -> None:
    service = plugin_service({"get_patience": patience.PLUGIN}, patience.CONFIG.format(file=tmp_path / "held"))
    open_account(service.dsn, "c_1", 10_000)
    async with service.client() as client:
        with patience.held(tmp_path / "held"):
            sending = asyncio.create_task(client.post("/api/payments/decide", json=body("c_1")))
            await meanwhile(lambda: service.lines(patience.WAITS))
            ended = asyncio.create_task(asyncio.to_thread(service.stop))
            await meanwhile(lambda: not service.listens)
        response = await sending
        assert response.status == 200
        assert (await response.json())["decision"] == "allow"
        assert await ended == 0
