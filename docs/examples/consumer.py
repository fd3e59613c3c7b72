"""Works off PayNow's events, each once: whatever is delivered twice, late or out of order, and wherever the program is killed.

    python consumer.py kafka localhost:9092 paynow.events           # pip install aiokafka
    python consumer.py rabbitmq amqp://localhost paynow.events      # pip install aio-pika
    python consumer.py redis redis://localhost paynow.events        # pip install redis

It keeps three things in SQLite, `payments.db` in the current folder: how each payment stands, how much was captured, and which customers' events are
missing. Put your own effects in place of the first two. On PostgreSQL the same statements do, with `begin` for `begin immediate`.
"""

import argparse
import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import closing
from decimal import Decimal
from typing import Any

Event = dict[str, Any]
Batch = tuple[list[Event], Callable[[], Awaitable[Any]]]
"""Events, and what tells their source that they need not come again."""

GROUP = "payments"
TABLES = """
create table if not exists seen (source text, id text, primary key (source, id));
create table if not exists customers (partitionkey text primary key, first integer not null, last integer not null, events integer not null);
create table if not exists payments (payment_id text primary key, state text not null, sequence integer not null);
create table if not exists captured (currency text primary key, amount text not null);
"""
STATES = {
    "paynow.payment.decided": "decision",
    "paynow.case.resolved": "resolution",
    "paynow.reservation.captured": "reservation",
    "paynow.reservation.released": "reservation",
    "paynow.reservation.expired": "reservation",
}
"""How a payment stands, by the event that says so. Types that are not here are passed over: there may be others tomorrow."""


class Inbox:
    """Events with what follows from them."""

    def __init__(self, path: str) -> None:
        self.database = sqlite3.connect(path, isolation_level=None, timeout=30)
        self.database.executescript(TABLES)

    def work_off(self, events: Iterable[Event]) -> int:
        """In one transaction: what was seen and what follows from it are both there afterwards, or neither. Says how many events were new."""
        with self.database:
            self.database.execute("begin immediate")
            return sum(self._work_off(event) for event in events)

    def missing(self) -> list[tuple[str, int]]:
        """Customers between whose first and last event there are others that did not come, and how many."""
        return self.database.execute("select partitionkey, last - first + 1 - events from customers where last - first + 1 > events").fetchall()

    def close(self) -> None:
        self.database.close()

    def _work_off(self, event: Event) -> bool:
        if not self.database.execute("insert into seen values (?, ?) on conflict do nothing", (event["source"], event["id"])).rowcount:
            return False
        sequence = int(event["sequence"])
        self.database.execute(
            "insert into customers values (?, ?, ?, 1) on conflict do update"
            " set first = min(first, excluded.first), last = max(last, excluded.last), events = events + 1",
            (event["partitionkey"], sequence, sequence),
        )
        if event["type"] == "paynow.reservation.captured":
            self._add(event["data"]["currency"], Decimal(event["data"]["amount"]))
        if event["type"] in STATES:
            self._stands(event["subject"], event["data"][STATES[event["type"]]], sequence)
        return True

    def _add(self, currency: str, amount: Decimal) -> None:
        """What adds up needs no order: that each event counts once is enough."""
        before = self.database.execute("select amount from captured where currency = ?", (currency,)).fetchone()
        total = amount + Decimal(before[0] if before else 0)
        self.database.execute("insert into captured values (?, ?) on conflict do update set amount = excluded.amount", (currency, str(total)))

    def _stands(self, payment_id: str, state: str, sequence: int) -> None:
        """What overwrites needs the sequence: an older event that comes later changes nothing."""
        self.database.execute(
            "insert into payments values (?, ?, ?) on conflict do update"
            " set state = excluded.state, sequence = excluded.sequence where excluded.sequence > payments.sequence",
            (payment_id, state, sequence),
        )


async def consume(batches: AsyncIterator[Batch], inbox: Inbox) -> None:
    """First the transaction, then the source is told. Killed between the two, the same events come again, and are known."""
    async for events, done in batches:
        inbox.work_off(events)
        await done()


async def kafka(servers: str, topic: str, name: str) -> AsyncIterator[Batch]:
    """Consumers of the group share the partitions; a customer's events lie in one, in their order. `name` is this consumer's, over restarts."""
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=servers, group_id=GROUP, group_instance_id=name, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    async with consumer:
        while True:
            partitions = await consumer.getmany(timeout_ms=1_000, max_records=500)
            if partitions:
                yield [json.loads(record.value) for records in partitions.values() for record in records], consumer.commit


async def rabbitmq(url: str, queue: str, name: str) -> AsyncIterator[Batch]:
    """What was not acknowledged when the connection ends goes back into the queue."""
    import aio_pika

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)
        async with (await channel.get_queue(queue)).iterator(consumer_tag=name) as messages:
            async for message in messages:
                yield [json.loads(message.body)], message.ack


async def redis(url: str, stream: str, name: str) -> AsyncIterator[Batch]:
    """First what this consumer got before and did not acknowledge, then what is new."""
    from redis.asyncio import Redis
    from redis.exceptions import ResponseError

    async with Redis.from_url(url) as client:
        try:
            await client.xgroup_create(stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        after = "0"
        while True:
            found = dict(await client.xreadgroup(GROUP, name, {stream: after}, count=100, block=1_000))
            entries = found.get(stream.encode(), [])
            if entries:
                ids = [entry for entry, _ in entries]
                yield [json.loads(fields[b"event"]) for _, fields in entries if fields], lambda ids=ids: client.xack(stream, GROUP, *ids)
            else:
                after = ">"


SOURCES = {"kafka": kafka, "rabbitmq": rabbitmq, "redis": redis}


def main() -> None:
    """Until it is killed."""
    parser = argparse.ArgumentParser(description="Works off PayNow's events, each once.")
    parser.add_argument("source", choices=SOURCES)
    parser.add_argument("server", help="bootstrap servers of Kafka, or an URL")
    parser.add_argument("channel", help="topic, queue or stream")
    parser.add_argument("--database", default="payments.db")
    parser.add_argument("--name", default="consumer-1", help="this consumer's own name, the same over restarts")
    options = parser.parse_args()
    with closing(Inbox(options.database)) as inbox:
        asyncio.run(consume(SOURCES[options.source](options.server, options.channel, options.name), inbox))


if __name__ == "__main__":
    main()
