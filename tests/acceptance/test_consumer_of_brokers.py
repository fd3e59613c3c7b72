"""The example consumer behind real sinks and real brokers: whatever it is killed at, in the end it has worked off every event once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from consumers import consuming, expected, held
from reviews import get, post
from service import UNLIMITED, RunningService, body, open_account, running
from waiting import eventually_async

CUSTOMERS, EACH = 5, 6


def kafka(server: Any, channel: str) -> tuple[str, dict[str, str]]:
    settings = {"TOPIC": channel, "CREATE_TOPIC": "true", "PARTITIONS": "3", "REPLICATION_FACTOR": "1"}
    return server.bootstrap, {"KAFKA_BOOTSTRAP_SERVERS": server.bootstrap, **{f"PAYNOW_EVENTS__KAFKA__{name}": it for name, it in settings.items()}}


def rabbitmq(server: Any, channel: str) -> tuple[str, dict[str, str]]:
    settings = {"EXCHANGE": channel, "QUEUES": f'["{channel}"]', "DEAD_LETTER_EXCHANGE": f"{channel}.dead", "DEAD_LETTER_QUEUE": f"{channel}.dead"}
    return server.url, {"AMQP_URL": server.url, **{f"PAYNOW_EVENTS__RABBITMQ__{name}": it for name, it in settings.items()}}


def redis_streams(server: Any, channel: str) -> tuple[str, dict[str, str]]:
    return server.url, {"REDIS_URL": server.url, "PAYNOW_EVENTS__REDIS_STREAMS__STREAM": channel}


@asynccontextmanager
async def paid(service: RunningService) -> AsyncIterator[aiohttp.ClientSession]:
    """Captured payments of several customers at once: two events each."""

    async def pay(client: aiohttp.ClientSession, customer: str) -> None:
        for number in range(EACH):
            status, answer = await post(client, "/api/payments/decide", body(customer, "1.25", f"k-{number}"))
            assert (status, answer["decision"]) == (200, "allow")
            assert (await post(client, f"/api/payments/{answer['paymentId']}/capture"))[0] == 200

    async with service.client() as client:
        await asyncio.gather(*(pay(client, f"c_{number}") for number in range(CUSTOMERS)))
        yield client


async def all_delivered(client: aiohttp.ClientSession, sink: str) -> bool:
    """Whether both sinks have taken every event; so topic, queue or stream are there too."""
    async with client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return all(f'paynow_events_delivered_total{{sink="{name}"}} {2 * EACH * CUSTOMERS}.0' in lines for name in (sink, "memory"))


@pytest.mark.parametrize(("source", "sink"), [("kafka", kafka), ("rabbitmq", rabbitmq), ("redis", redis_streams)])
async def test_a_killed_consumer_works_off_every_event_of_a_broker_once(
    source: str, sink: Callable[..., Any], request: pytest.FixtureRequest, database: str, tmp_path: Path
) -> None:
    pytest.importorskip(f"servers.{source}", reason="the tests cannot start this server")
    channel, payments = f"paynow.consumer.{uuid4().hex}", tmp_path / "payments.db"
    address, environ = sink(request.getfixturevalue(f"{source}_server"), channel)
    for number in range(CUSTOMERS):
        open_account(database, f"c_{number}", 10_000)
    with running(database, tmp_path, {**UNLIMITED, **environ, "PAYNOW_EVENTS__SINKS": f'["memory", "{sink.__name__}"]'}) as service:
        async with paid(service) as client:
            await eventually_async(lambda: all_delivered(client, sink.__name__), within_s=30)
            events = (await get(client, "/api/events/recent?limit=200"))["items"]
    assert len(events) == 2 * EACH * CUSTOMERS

    async def seen(count: int) -> bool:
        return held(payments)[0] >= count

    for count in (1, len(events)):
        with consuming(source, address, channel, payments):
            await eventually_async(lambda count=count: seen(count), within_s=30)
    assert held(payments) == expected(events)
