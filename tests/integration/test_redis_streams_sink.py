"""The sink `redis_streams` on a real Redis: events in their order, bounded, and every trouble of Redis is one that passes."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from paynow.errors import ConfigurationRefused
from paynow.plugin_api import DeliveryRefused, EventSink
from paynow.plugin_loader import load_plugins
from paynow.settings import Settings
from paynow.settings.load import load
from servers.redis import RedisCluster, RedisServer

STREAM = "paynow.events"
TIMEOUT_MS = 300

SinkOf = Callable[..., EventSink]


def settings_of(url: str | None, **changes: Any) -> Settings:
    settings = load(None, {}).settings
    own = replace(settings.events.redis_streams, timeout_ms=TIMEOUT_MS, **changes)
    return replace(
        settings,
        events=replace(settings.events, sinks=("redis_streams",), redis_streams=own),
        secrets=replace(settings.secrets, redis_url=url),
    )


@pytest.fixture
async def sink_of() -> AsyncIterator[SinkOf]:
    made: list[EventSink] = []

    def make(url: str, **changes: Any) -> EventSink:
        made.append(load_plugins(settings_of(url, **changes)).sinks["redis_streams"])
        return made[-1]

    yield make
    for sink in made:
        await sink.close()


def an_event(number: int, filling: str = "") -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"01920000-0000-7000-8000-{number:012d}",
        "type": "paynow.payment.decided",
        "sequence": f"{number:019d}",
        "partitionkey": "4ad5f175f12fa7da7c135d03d4760dfc",
        "data": {"customerId": "c_1", "note": f"a name with ümlaut{filling}"},
    }


def lying(server: RedisServer) -> list[dict[str, str]]:
    """The fields of the stream's entries, the oldest first."""
    return [fields for _, fields in server.call("XRANGE", STREAM, "-", "+")]


def ids(events: list[dict[str, Any]] | list[dict[str, str]]) -> list[str]:
    return [event["id"] for event in events]


async def test_events_lie_in_their_order_with_what_consumers_choose_by(sink_of: SinkOf, redis_server: RedisServer) -> None:
    sink, events = sink_of(redis_server.url), [an_event(number) for number in range(700)]
    await sink.deliver(events[:500])
    await sink.deliver(events[500:])
    entries = lying(redis_server)
    assert [json.loads(entry["event"]) for entry in entries] == events
    assert entries[3] == {
        "id": events[3]["id"],
        "type": "paynow.payment.decided",
        "partitionkey": "4ad5f175f12fa7da7c135d03d4760dfc",
        "event": entries[3]["event"],
    }


async def test_a_stream_on_a_cluster_takes_them_as_well(sink_of: SinkOf, redis_cluster: RedisCluster) -> None:
    events = [an_event(number) for number in range(10)]
    await sink_of(redis_cluster.url).deliver(events)
    holding = [node for node in redis_cluster.nodes if STREAM in node.call("KEYS", "*")]
    assert [ids(lying(node)) for node in holding] == [ids(events)]


async def test_the_oldest_leave_a_stream_that_is_full(sink_of: SinkOf, redis_server: RedisServer) -> None:
    sink, events = sink_of(redis_server.url, length_max=1000), [an_event(number) for number in range(3000)]
    for first in range(0, 3000, 500):
        await sink.deliver(events[first : first + 500])
    left = ids(lying(redis_server))
    assert 1000 <= len(left) <= 1200
    assert left == ids(events)[-len(left) :]


async def test_a_redis_without_memory_takes_a_batch_later_and_in_its_order(sink_of: SinkOf, redis_server: RedisServer) -> None:
    """Never a part of it and then what stands behind: the batch that comes again would bring the part between too late."""
    sink, events = sink_of(redis_server.url), [an_event(number, "x" * 5_000) for number in range(300)]
    try:
        for room in (0, 300_000, 1_500_000, 3_000_000):
            redis_server.call("CONFIG", "SET", "maxmemory", str(int(redis_server.call("INFO", "memory")["used_memory"]) + room + 1))
            try:
                await sink.deliver(events)
            except Exception as error:
                assert isinstance(error, redis.OutOfMemoryError)
                assert not isinstance(error, DeliveryRefused)
            assert ids(lying(redis_server)) in ([], ids(events))
            redis_server.call("DEL", STREAM)
    finally:
        redis_server.call("CONFIG", "SET", "maxmemory", "0")
    await sink.deliver(events)
    assert ids(lying(redis_server)) == ids(events)


async def test_a_redis_that_asks_for_a_password_is_trouble_that_passes(sink_of: SinkOf, redis_server: RedisServer) -> None:
    redis_server.call("ACL", "SETUSER", "events", "on", ">secret", f"~{STREAM}", "+eval", "+xadd")
    try:
        with pytest.raises(redis.AuthenticationError):
            await sink_of(redis_server.url.replace("redis://", "redis://events:wrong@")).deliver([an_event(1)])
        await sink_of(redis_server.url.replace("redis://", "redis://events:secret@")).deliver([an_event(1)])
    finally:
        redis_server.call("ACL", "DELUSER", "events")
    assert len(lying(redis_server)) == 1


async def test_after_an_outage_the_first_of_each_event_lie_in_order(sink_of: SinkOf, redis_server: RedisServer) -> None:
    sink, events = sink_of(redis_server.url), [an_event(number) for number in range(60)]
    await sink.deliver(events[:20])
    for go_away, come_back, batch in (
        (redis_server.pause, redis_server.resume, events[20:40]),
        (redis_server.stop, redis_server.start, events[40:]),
    ):
        go_away()
        began = time.monotonic()
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            await sink.deliver(batch)
        assert time.monotonic() - began < 3 * TIMEOUT_MS / 1000
        come_back()
        await sink.deliver(batch)
    assert list(dict.fromkeys(ids(lying(redis_server)))) == ids(events)


def test_a_redis_that_is_not_named_stops_the_boot() -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        load_plugins(settings_of(None))
    assert "REDIS_URL is not set" in refused.value.faults[0].message
