"""The event sink `kafka`: CloudEvents in structured mode, each customer's in one partition of the topic and in order.

A partition gets its events in batches that Kafka writes as a whole or not at all, one after another: the next is sent when the one before is
acknowledged by all replicas in sync. So whatever fails, no event is written without those of its customer that came before it.
"""

import asyncio
import re
import ssl
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from loguru import logger

from paynow.plugin_api import DeliveryRefused, EventSink, hookimpl

try:
    from aiokafka import AIOKafkaProducer, errors
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic
    from aiokafka.codec import has_lz4, has_snappy, has_zstd
    from aiokafka.partitioner import DefaultPartitioner
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("the event sink `kafka` needs the package aiokafka: pip install 'paynow[kafka]'") from missing

CONTENT_TYPE = ("content-type", b"application/cloudevents+json")
BATCH_BYTES_MAX = 512 * 1024
"""Brokers take batches of up to 1 MiB unless they are told otherwise (`message.max.bytes`)."""
RETRY_BACKOFF_MS = 250
BOOTSTRAP_SERVER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
CODECS = {"lz4": has_lz4, "snappy": has_snappy, "zstd": has_zstd}
"""What says whether a compression can be used here. gzip is Python's own."""
REFUSALS = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
"""The same events would be refused again. An event that is refused among others may be at home in a smaller batch: the relay finds out."""

partition_of = DefaultPartitioner()
"""As Kafka's own clients choose it: murmur2 of the key."""


class TopicMissing(Exception):
    """The topic does not exist, or PayNow may not see it."""


class KafkaSink:
    """Connects with its first delivery. A producer that has failed once is never used again, and what it had not sent ends with it: so nothing
    of a batch that failed comes after what is sent later."""

    name = "kafka"

    def __init__(self, settings: Any, connection: Mapping[str, Any]) -> None:
        """`settings`: the table `events.kafka`. `connection`: what aiokafka's clients are told about the brokers, and how to come to them."""
        self._settings = settings
        self._connection = connection
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        producer = await self._connected()
        try:
            await self._send(producer, events)
        except BaseException as error:
            self._discard(producer)
            if isinstance(error, REFUSALS):
                raise DeliveryRefused(str(error)) from error
            raise

    async def close(self) -> None:
        if self._producer is not None:
            self._discard(self._producer)
        await self._ended()

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._producer is None:
                await self._ended()
                self._producer = await self._connect()
            return self._producer

    async def _connect(self) -> AIOKafkaProducer:
        compression = None if self._settings.compression == "none" else self._settings.compression
        producer = AIOKafkaProducer(
            **self._connection, enable_idempotence=True, acks="all", compression_type=compression, max_batch_size=BATCH_BYTES_MAX
        )
        try:
            await producer.start()
            if self._settings.topic not in (await producer.client.fetch_all_metadata()).topics():
                await self._make_topic()
        except BaseException:
            self._discard(producer)
            raise
        return producer

    async def _make_topic(self) -> None:
        """Asked for all topics, as above, the brokers make none; asked for one by its name some would, with partitions that nobody has chosen."""
        if not self._settings.create_topic:
            logger.bind(sink=self.name, setting="events.kafka.topic").error("the topic for events does not exist")
            raise TopicMissing(f"the topic {self._settings.topic} does not exist")
        admin = AIOKafkaAdminClient(**self._connection)
        try:
            await admin.start()
            topic = NewTopic(self._settings.topic, self._settings.partitions, self._settings.replication_factor)
            answer = await admin.create_topics([topic])
        finally:
            await admin.close()
        for _name, code, *_text in answer.topic_errors:
            error = errors.for_code(code)
            if error not in (errors.NoError, errors.TopicAlreadyExistsError):
                logger.bind(sink=self.name, setting="events.kafka.create_topic", error=error.__name__).error("the topic for events cannot be made")
                raise error

    async def _send(self, producer: AIOKafkaProducer, events: Sequence[Mapping[str, Any]]) -> None:
        partitions = sorted(await producer.partitions_for(self._settings.topic))
        shares: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for event in events:
            shares[partition_of(event["partitionkey"].encode(), partitions, partitions)].append(event)
        sends = [asyncio.ensure_future(self._send_in_turn(producer, partition, share)) for partition, share in shares.items()]
        try:
            await asyncio.gather(*sends)
        finally:
            for send in sends:
                send.cancel()

    async def _send_in_turn(self, producer: AIOKafkaProducer, partition: int, events: Sequence[Mapping[str, Any]]) -> None:
        sent = 0
        while sent < len(events):
            batch = producer.create_batch()
            for event in events[sent:]:
                key, value = event["partitionkey"].encode(), orjson.dumps(event)
                if batch.append(key=key, value=value, timestamp=None, headers=[CONTENT_TYPE]) is None:
                    break
            sent += batch.record_count()
            acknowledged = await producer.send_batch(batch, self._settings.topic, partition=partition)
            await acknowledged

    def _discard(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer:
            self._producer = None
        ending = asyncio.create_task(_end(producer))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _ended(self) -> None:
        if self._ending:
            await asyncio.wait(self._ending)


async def _end(producer: AIOKafkaProducer) -> None:
    """Ends a producer with what it has not sent, within the time of one request. Its own `stop` would go on sending, for as long as the brokers
    are away: what an idempotent producer holds never expires."""
    producer._closed = True  # nothing is left that it should warn of when it is collected
    for closing in (producer._sender.close, producer.client.close):
        try:
            await closing()
        except Exception as error:
            logger.bind(sink=KafkaSink.name, error=type(error).__name__).debug("a producer that had failed did not end in order")


@hookimpl
def paynow_register_event_sinks(settings) -> Sequence[EventSink]:
    return [KafkaSink(settings.events.kafka, connection(settings.events.kafka, settings.secrets))]


def connection(settings: Any, secrets: Any) -> dict[str, Any]:
    """What aiokafka's clients are told. Raises `ValueError` for what is missing or cannot be, `OSError` for certificates that cannot be read."""
    if settings.compression in CODECS and not CODECS[settings.compression]():
        raise ValueError(f"events.kafka.compression is {settings.compression}, which needs one more package: pip install 'aiokafka[all]'")
    told: dict[str, Any] = {
        "bootstrap_servers": _bootstrap_servers(secrets.kafka_bootstrap_servers),
        "client_id": settings.client_id,
        "request_timeout_ms": settings.request_timeout_ms,
        "retry_backoff_ms": RETRY_BACKOFF_MS,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        told["ssl_context"] = ssl.create_default_context(cafile=settings.ca_file)
        if settings.certificate_file is not None:
            told["ssl_context"].load_cert_chain(settings.certificate_file, settings.key_file)
    if settings.security_protocol.startswith("SASL"):
        if secrets.kafka_username is None or secrets.kafka_password is None:
            raise ValueError(f"events.kafka.security_protocol is {settings.security_protocol}, but KAFKA_USERNAME or KAFKA_PASSWORD is not set")
        told["sasl_mechanism"] = settings.sasl_mechanism
        told["sasl_plain_username"] = secrets.kafka_username
        told["sasl_plain_password"] = secrets.kafka_password
    return told


def _bootstrap_servers(text: str | None) -> list[str]:
    if text is None:
        raise ValueError("the event sink `kafka` needs KAFKA_BOOTSTRAP_SERVERS, which is not set")
    servers = [server.strip() for server in text.split(",")]
    if not all(map(BOOTSTRAP_SERVER.fullmatch, servers)):
        raise ValueError("KAFKA_BOOTSTRAP_SERVERS: expected host:port, or several with commas between them")
    return servers
