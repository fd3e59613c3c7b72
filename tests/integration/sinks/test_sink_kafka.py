"""The sink `kafka` against Apache Kafka."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from outgoing import SmallRelay, assert_all_in_order, events_of
from paynow.plugin_api import DeliveryRefused
from servers.kafka import PASSWORD, USERNAME, KafkaServer, records_in
from waiting import meanwhile


@pytest.fixture
def topic() -> str:
    return f"events-{uuid4().hex[:12]}"


@pytest.fixture
def kafka_sink(kafka_server: KafkaServer, sink_of: Callable[..., Any], topic: str) -> Callable[..., Any]:
    """A sink for the test's topic, which it makes itself unless it is told otherwise."""

    def make(**keys: Any) -> Any:
        told = {"topic": topic, "create_topic": True, "partitions": 3, "replication_factor": 1, "request_timeout_ms": 1000, **keys}
        return sink_of("kafka", {"KAFKA_BOOTSTRAP_SERVERS": kafka_server.bootstrap}, **told)

    return make


async def make_topic(server: KafkaServer, name: str, **configs: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=server.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs=configs)])
    finally:
        await admin.close()


def events_in(records: list[ConsumerRecord]) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in records]


async def test_a_customers_events_lie_in_one_partition_in_order_as_structured_cloudevents(
    kafka_server: KafkaServer, kafka_sink: Callable[..., Any], topic: str
) -> None:
    events = events_of(20, 5)
    await kafka_sink(compression="gzip").deliver(events)
    records = await records_in(kafka_server, topic)
    assert assert_all_in_order(events_in(records), events) == 0
    assert {record.partition for record in records} == {0, 1, 2}
    assert len({(record.key, record.partition) for record in records}) == 20
    for record in records:
        assert record.key.decode() == json.loads(record.value)["partitionkey"]
        assert dict(record.headers) == {"content-type": b"application/cloudevents+json"}


async def test_a_topic_that_is_missing_is_told_and_waited_for(
    kafka_server: KafkaServer, kafka_sink: Callable[..., Any], topic: str, logged: list[dict[str, Any]]
) -> None:
    events = events_of(1, 2)
    sink = kafka_sink(create_topic=False)
    with pytest.raises(Exception, match=f"the topic {topic} does not exist"):
        await sink.deliver(events)
    (line,) = [line for line in logged if line["message"] == "the topic for events does not exist"]
    assert (line["level"], line["sink"], line["setting"]) == ("ERROR", "kafka", "events.kafka.topic")
    await make_topic(kafka_server, topic)
    await SmallRelay(sink).deliver(events)
    assert_all_in_order(events_in(await records_in(kafka_server, topic)), events)


async def test_all_arrive_in_order_though_the_broker_dies_in_the_middle(
    kafka_server: KafkaServer, kafka_sink: Callable[..., Any], topic: str
) -> None:
    events = events_of(40, 100)
    relay = SmallRelay(kafka_sink())
    closed = kafka_sink(topic=f"{topic}.closed")
    await closed.deliver(events_of(1, 1))
    delivering = asyncio.create_task(relay.deliver(events, batch=50))
    await meanwhile(lambda: relay.delivered >= 1000)
    await asyncio.to_thread(kafka_server.kill)
    await meanwhile(lambda: relay.failures)
    await assert_cut_off_and_closed_in_time(closed)
    await asyncio.to_thread(kafka_server.start)
    await delivering
    assert not relay.refused
    assert_all_in_order(events_in(await records_in(kafka_server, topic)), events)


async def assert_cut_off_and_closed_in_time(sink: Any) -> None:
    """While the broker is away: what it cannot deliver does not keep the sink from being cancelled, nor from being closed."""
    delivering = asyncio.create_task(sink.deliver(events_of(1, 1)))
    await meanwhile(lambda: sink._producer._message_accumulator._batches or sink._producer._message_accumulator._pending_batches)
    delivering.cancel()
    async with asyncio.timeout(1):
        await asyncio.wait({delivering})
    async with asyncio.timeout(4):
        await sink.close()


async def test_what_is_too_large_is_refused_alone_and_nothing_overtakes_what_was_refused_with_it(
    kafka_server: KafkaServer, kafka_sink: Callable[..., Any], topic: str
) -> None:
    await make_topic(kafka_server, topic, **{"max.message.bytes": "120000"})
    events = events_of(1, 400, note="n" * 600)  # two batches of Kafka's, of which the first is larger than the topic takes
    events[300]["data"]["note"] = "n" * 150_000
    relay = SmallRelay(kafka_sink())
    with pytest.raises(DeliveryRefused):
        await relay.sink.deliver(events)
    await relay.deliver(events)
    assert list(relay.refused) == [events[300]["id"]]
    assert not relay.failures
    taken = [event for event in events if event["id"] not in relay.refused]
    assert_all_in_order(events_in(await records_in(kafka_server, topic)), taken)


async def test_a_password_is_told_to_brokers_that_ask_for_one(kafka_server: KafkaServer, sink_of: Callable[..., Any], topic: str) -> None:
    await make_topic(kafka_server, topic)
    events = events_of(2, 2)
    keys = {"topic": topic, "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "request_timeout_ms": 1000}
    environ = {"KAFKA_BOOTSTRAP_SERVERS": kafka_server.password_bootstrap, "KAFKA_USERNAME": USERNAME}
    with pytest.raises(Exception, match="Unable to bootstrap"):
        await sink_of("kafka", {**environ, "KAFKA_PASSWORD": "another"}, **keys).deliver(events)
    await sink_of("kafka", {**environ, "KAFKA_PASSWORD": PASSWORD}, **keys).deliver(events)
    assert_all_in_order(events_in(await records_in(kafka_server, topic)), events)
