"""The sink `rabbitmq` against RabbitMQ."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue

from outgoing import Event, SmallRelay, assert_all_in_order, events_of
from paynow.plugin_api import DeliveryRefused
from servers.rabbitmq import MESSAGE_BYTES_MAX, Messages, RabbitmqServer, taken_from
from waiting import meanwhile


@pytest.fixture
def name() -> str:
    return f"events-{uuid4().hex[:12]}"


@pytest.fixture
def rabbitmq_sink(rabbitmq_server: RabbitmqServer, sink_of: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A sink whose exchange and queues bear the test's name."""

    def make(**keys: Any) -> Any:
        names = {"exchange": name, "queues": (name,), "dead_letter_exchange": f"{name}.dead", "dead_letter_queue": f"{name}.dead"}
        return sink_of("rabbitmq", {"AMQP_URL": rabbitmq_server.url}, **{**names, **keys})

    return make


@pytest.fixture
async def channel(rabbitmq_server: RabbitmqServer) -> AsyncIterator[AbstractChannel]:
    """A consumer's, which nothing of the sink's touches. Ask for it only where the server is not stopped."""
    async with await aio_pika.connect(rabbitmq_server.url) as connection:
        yield await connection.channel()


def events_in(messages: Messages) -> list[Event]:
    return [json.loads(message.body) for message in messages]


async def test_events_lie_in_order_as_persistent_messages_that_say_what_they_are(
    rabbitmq_sink: Callable[..., Any], channel: AbstractChannel, name: str
) -> None:
    events = events_of(20, 5)
    await rabbitmq_sink(queue_type="quorum").deliver(events)
    messages = await taken_from(channel, name, len(events))
    assert assert_all_in_order(events_in(messages), events) == 0
    for message in messages:
        event = json.loads(message.body)
        assert message.content_type == "application/cloudevents+json"
        assert message.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
        assert (message.message_id, message.type, message.routing_key) == (event["id"], event["type"], event["type"])
        assert message.timestamp is not None
        assert message.timestamp.isoformat() == "2026-11-24T10:00:00+00:00"
        assert message.headers == {"partitionkey": event["partitionkey"], "sequence": event["sequence"]}


async def test_all_arrive_in_order_though_the_server_dies_in_the_middle(
    rabbitmq_server: RabbitmqServer, rabbitmq_sink: Callable[..., Any], name: str
) -> None:
    events = events_of(40, 100)
    relay = SmallRelay(rabbitmq_sink())
    delivering = asyncio.create_task(relay.deliver(events, batch=50))
    await meanwhile(lambda: relay.delivered >= 1000)
    await asyncio.to_thread(rabbitmq_server.kill)
    await meanwhile(lambda: relay.failures)
    await asyncio.to_thread(rabbitmq_server.start)
    await delivering
    assert not relay.refused
    async with await aio_pika.connect(rabbitmq_server.url) as connection:
        messages = await taken_from(await connection.channel(), name, len(events))
    assert_all_in_order(events_in(messages), events)


async def test_what_no_queue_gets_is_no_delivery_and_is_tried_again(rabbitmq_sink: Callable[..., Any], channel: AbstractChannel, name: str) -> None:
    events = events_of(3, 3)
    relay = SmallRelay(rabbitmq_sink(queues=()))
    delivering = asyncio.create_task(relay.deliver(events))
    await meanwhile(lambda: len(relay.failures) >= 2)
    assert set(relay.failures) == {"PublishError"}
    queue = await channel.declare_queue(name, durable=True)
    await queue.bind(name, "paynow.payment.*")
    await delivering
    assert_all_in_order(events_in(await taken_from(channel, name, len(events))), events)


async def test_nothing_overtakes_what_the_queue_does_not_take(rabbitmq_sink: Callable[..., Any], channel: AbstractChannel, name: str) -> None:
    exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)
    queue = await channel.declare_queue(name, arguments={"x-max-length": 4, "x-overflow": "reject-publish"})
    await queue.bind(exchange, "#")
    events = events_of(2, 30)
    relay = SmallRelay(rabbitmq_sink(declare=False))
    delivering = asyncio.create_task(relay.deliver(events, batch=20))
    messages: Messages = []
    while not delivering.done():  # one by one, so that there is room again and again while others are not taken
        messages += await taken_at_once(queue)
    await delivering
    while some := await taken_at_once(queue):
        messages += some
    assert set(relay.failures) == {"DeliveryError"}
    assert_all_in_order(events_in(messages), events)


async def taken_at_once(queue: AbstractQueue) -> Messages:
    """The queue's first message, if it has any."""
    message = await queue.get(no_ack=True, fail=False)
    return [] if message is None else [message]


async def test_what_is_too_large_is_refused_alone(rabbitmq_sink: Callable[..., Any], channel: AbstractChannel, name: str) -> None:
    events = events_of(2, 4)
    events[3]["data"]["note"] = "n" * MESSAGE_BYTES_MAX
    relay = SmallRelay(rabbitmq_sink())
    with pytest.raises(DeliveryRefused):
        await relay.sink.deliver(events)
    await relay.deliver(events)
    assert list(relay.refused) == [events[3]["id"]]
    assert not relay.failures
    taken = [event for event in events if event["id"] not in relay.refused]
    assert_all_in_order(events_in(await taken_from(channel, name, len(taken))), taken)


async def test_what_a_consumer_rejects_lies_with_the_dead_letters(rabbitmq_sink: Callable[..., Any], channel: AbstractChannel, name: str) -> None:
    events = events_of(1, 3)
    await rabbitmq_sink(single_active_consumer=False).deliver(events)
    queue = await channel.get_queue(name)
    rejected = await queue.get()
    await rejected.reject(requeue=False)
    (dead,) = await taken_from(channel, f"{name}.dead", 1)
    assert dead.message_id == rejected.message_id == events[0]["id"]


async def test_a_queue_that_exists_otherwise_is_told_and_nothing_is_lost(
    rabbitmq_sink: Callable[..., Any], channel: AbstractChannel, name: str, logged: list[dict[str, Any]]
) -> None:
    await channel.declare_queue(name, durable=True)
    events = events_of(1, 2)
    sink = rabbitmq_sink()
    with pytest.raises(Exception, match="PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange'"):
        await sink.deliver(events)
    (line,) = [line for line in logged if line["message"] == "the exchanges and queues for events are not what the settings say"]
    assert (line["level"], line["sink"], line["setting"]) == ("ERROR", "rabbitmq", "events.rabbitmq")
    await channel.queue_delete(name)
    await sink.deliver(events)
    assert_all_in_order(events_in(await taken_from(channel, name, 2)), events)


async def test_an_exchange_that_nobody_has_made_is_told(rabbitmq_sink: Callable[..., Any], name: str) -> None:
    with pytest.raises(Exception, match=f"NOT_FOUND - no exchange '{name}'"):
        await rabbitmq_sink(declare=False).deliver(events_of(1, 1))


async def test_a_consistent_hash_exchange_keeps_a_customer_in_one_of_several_queues(
    rabbitmq_sink: Callable[..., Any], channel: AbstractChannel, name: str
) -> None:
    events = events_of(30, 3)
    queues = (f"{name}.1", f"{name}.2")
    await rabbitmq_sink(exchange_type="x-consistent-hash", queues=queues).deliver(events)
    shares = [events_in(await taken_from(channel, queue, 1)) for queue in queues]
    first, second = ({event["partitionkey"] for event in share} for share in shares)
    assert first
    assert second
    assert not first & second
    assert_all_in_order([*shares[0], *shares[1]], events)
