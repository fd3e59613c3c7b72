"""A service that is told of Kafka and RabbitMQ hands each decision to both."""

from __future__ import annotations

import json
from pathlib import Path

import aio_pika
import aiohttp

from servers.kafka import KafkaServer, records_in
from servers.rabbitmq import RabbitmqServer, taken_from
from service import UNLIMITED, body, open_account, running
from waiting import eventually_async

PAYMENTS = 5


async def test_every_decision_is_told_to_kafka_and_to_rabbitmq(
    database: str, tmp_path: Path, kafka_server: KafkaServer, rabbitmq_server: RabbitmqServer
) -> None:
    open_account(database, "c_1", 10_000)
    topic = tmp_path.name
    environ = {
        "PAYNOW_EVENTS__SINKS": "kafka,rabbitmq",
        "KAFKA_BOOTSTRAP_SERVERS": kafka_server.bootstrap,
        "PAYNOW_EVENTS__KAFKA__TOPIC": topic,
        "PAYNOW_EVENTS__KAFKA__CREATE_TOPIC": "true",
        "PAYNOW_EVENTS__KAFKA__REPLICATION_FACTOR": "1",
        "AMQP_URL": rabbitmq_server.url,
        **{f"PAYNOW_EVENTS__RABBITMQ__{key}": f"{topic}.{key}" for key in ("EXCHANGE", "QUEUES", "DEAD_LETTER_EXCHANGE", "DEAD_LETTER_QUEUE")},
    }
    with running(database, tmp_path, UNLIMITED | environ) as service:
        async with service.client() as client:
            decided = []
            for number in range(PAYMENTS):
                async with client.post("/api/payments/decide", json=body(key=f"k-{number}")) as answer:
                    decided.append((await answer.json())["paymentId"])
            await eventually_async(lambda: all_delivered(client))
        async with await aio_pika.connect(rabbitmq_server.url) as connection:
            messages = await taken_from(await connection.channel(), f"{topic}.QUEUES", PAYMENTS)
        records = await records_in(kafka_server, topic)
    assert [json.loads(message.body)["subject"] for message in messages] == decided
    assert [json.loads(record.value)["subject"] for record in records] == decided


async def all_delivered(client: aiohttp.ClientSession) -> bool:
    async with client.get("/metrics") as answer:
        told = await answer.text()
    return all(f'paynow_events_delivered_total{{sink="{sink}"}} {PAYMENTS}.0' in told for sink in ("kafka", "rabbitmq"))
