"""The event sink `rabbitmq`: CloudEvents in structured mode as persistent messages, each confirmed by the broker, into a topology that it declares.

A customer's events are sent one after another: the next when the broker has confirmed the one before. Customers are side by side. So whatever
fails, no event is taken without those of its customer that came before it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from loguru import logger
from yarl import URL

from paynow.plugin_api import DeliveryRefused, EventSink, hookimpl

try:
    import aio_pika
    from aio_pika import exceptions
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("the event sink `rabbitmq` needs the package aio-pika: pip install 'paynow[rabbitmq]'") from missing

CONTENT_TYPE = "application/cloudevents+json"
CONNECTION_DEFAULTS = {"name": "paynow", "heartbeat": "15"}
"""What the URL may say otherwise: the name that the broker shows, and after how many silent seconds a connection counts as lost."""
CLOSE_MAX_S = 3.0
EQUAL_SHARE = "1"
"""The binding key of a queue at a consistent-hash exchange is its weight."""
TOO_LARGE = "message size"
"""How the broker's text begins when a message is larger than it takes. It closes the channel with the same code as for other faults."""


class TopologyDiffers(Exception):
    """An exchange or queue exists with other arguments than the settings say, or is not there although nobody is to declare it."""


@dataclass(frozen=True, slots=True)
class _Link:
    """A connection with its one channel, on which the broker confirms what it takes and returns what no queue gets."""

    connection: AbstractConnection
    channel: AbstractChannel
    exchange: AbstractExchange


class RabbitmqSink:
    """Connects with its first delivery. A connection on which a delivery failed is never used again: what it has not confirmed is unknown."""

    name = "rabbitmq"

    def __init__(self, settings: Any, url: URL) -> None:
        """`settings`: the table `events.rabbitmq`."""
        self._settings = settings
        self._url = url
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        link = await self._connected()
        try:
            await self._publish(link.exchange, events)
        except BaseException as error:
            self._discard(link)
            if isinstance(error, exceptions.ChannelPreconditionFailed) and TOO_LARGE in str(error):
                raise DeliveryRefused(str(error)) from error
            raise

    async def close(self) -> None:
        if self._link is not None:
            self._discard(self._link)
        await self._ended()

    async def _connected(self) -> _Link:
        async with self._connecting:
            if self._link is not None and self._link.channel.is_closed:
                self._discard(self._link)
            if self._link is None:
                await self._ended()
                self._link = await self._connect()
            return self._link

    async def _connect(self) -> _Link:
        connection = await aio_pika.connect(self._url, timeout=self._settings.connect_timeout_ms / 1000)
        try:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            exchange = await self._declared(channel)
        except BaseException:
            self._end(connection)
            raise
        return _Link(connection, channel, exchange)

    async def _declared(self, channel: AbstractChannel) -> AbstractExchange:
        try:
            if self._settings.declare:
                return await self._declare(channel)
            return await channel.get_exchange(self._settings.exchange, ensure=True)
        except (exceptions.ChannelPreconditionFailed, exceptions.ChannelNotFoundEntity) as error:
            bound = logger.bind(sink=self.name, setting="events.rabbitmq", error=type(error).__name__)
            bound.error("the exchanges and queues for events are not what the settings say")
            raise TopologyDiffers(str(error)) from error

    async def _declare(self, channel: AbstractChannel) -> AbstractExchange:
        settings = self._settings
        kind: dict[str, Any] = {"x-queue-type": settings.queue_type}
        dead_letters = await channel.declare_exchange(settings.dead_letter_exchange, aio_pika.ExchangeType.FANOUT, durable=True)
        dead = await channel.declare_queue(settings.dead_letter_queue, durable=True, arguments=kind)
        await dead.bind(dead_letters)
        exchange = await channel.declare_exchange(settings.exchange, settings.exchange_type, durable=True)
        arguments = kind | {"x-dead-letter-exchange": dead_letters.name}
        if settings.single_active_consumer:
            arguments["x-single-active-consumer"] = True
        for name in settings.queues:
            queue = await channel.declare_queue(name, durable=True, arguments=arguments)
            await queue.bind(exchange, settings.binding if settings.exchange_type == "topic" else EQUAL_SHARE)
        return exchange

    async def _publish(self, exchange: AbstractExchange, events: Sequence[Mapping[str, Any]]) -> None:
        customers: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for event in events:
            customers[event["partitionkey"]].append(event)
        turns = [asyncio.ensure_future(self._publish_in_turn(exchange, of_one)) for of_one in customers.values()]
        try:
            await asyncio.gather(*turns)
        finally:
            for turn in turns:
                turn.cancel()

    async def _publish_in_turn(self, exchange: AbstractExchange, events: Sequence[Mapping[str, Any]]) -> None:
        for event in events:
            routing_key = event["type"] if self._settings.exchange_type == "topic" else event["partitionkey"]
            await exchange.publish(message(event), routing_key, mandatory=True)

    def _discard(self, link: _Link) -> None:
        if self._link is link:
            self._link = None
        self._end(link.connection)

    def _end(self, connection: AbstractConnection) -> None:
        ending = asyncio.create_task(_close(connection))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _ended(self) -> None:
        if self._ending:
            await asyncio.wait(self._ending)


async def _close(connection: AbstractConnection) -> None:
    try:
        await asyncio.wait_for(connection.close(), CLOSE_MAX_S)
    except Exception as error:
        logger.bind(sink=RabbitmqSink.name, error=type(error).__name__).debug("a connection did not close in order")


def message(event: Mapping[str, Any]) -> aio_pika.Message:
    """The event as the body, and what consumers and tools look at first beside it."""
    return aio_pika.Message(
        orjson.dumps(event),
        content_type=CONTENT_TYPE,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=event["id"],
        type=event["type"],
        timestamp=datetime.fromisoformat(event["time"]),
        app_id="paynow",
        headers={"partitionkey": event["partitionkey"], "sequence": event["sequence"]},
    )


@hookimpl
def paynow_register_event_sinks(settings) -> Sequence[EventSink]:
    return [RabbitmqSink(settings.events.rabbitmq, _url(settings.secrets.amqp_url))]


def _url(text: str | None) -> URL:
    if text is None:
        raise ValueError("the event sink `rabbitmq` needs AMQP_URL, which is not set")
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in ("amqp", "amqps") or not url.host:
        raise ValueError("AMQP_URL: expected amqp://user:password@host:5672/vhost, or amqps://")
    return url.with_query(CONNECTION_DEFAULTS | dict(url.query))
