"""Events into a real broker: how fast a backlog drains, whether the relay keeps up with full load, and what comes of an outage and of killed relays.

The brokers are those that the tests start.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import orjson

from bench.loads import Crowd, Load, generator
from bench.processes import stop
from bench.servers.rivals import PAYNOW, Rival, at_work, paynow_database, paynow_environment
from bench.stage import ROOT, Stage
from bench.turns import Broken, check_all_accepted, check_audit, check_drained, close_loop
from bench.voice import Voice

sys.path.insert(0, str(ROOT / "tests"))

TOPIC = "paynow.bench"
BEHIND = (
    "select (select count(*) from outbox) + coalesce(sum(p.last_place - g.place), 0) from event_progress g join event_partitions p using (partition)"
)
BEGUN = "select count(*) from event_partitions where last_place > 0"
DRAINED_WITHIN_S = 300.0
READ_WITHIN_S = 120.0
OUTAGE_BEGINS_S, OUTAGE_ENDS_S = 20.0, 80.0
KILLS_AT_S = (10.0, 40.0, 90.0, 105.0, 120.0)
OUTAGE_LOAD_S = 150.0
POLL_S = 0.05

Told = list[tuple[str, str, int]]
"""Events as they arrived: id, partition key, sequence."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker at work: what a service finds in its environment to reach it, and how it is stopped, started and read."""

    name: str
    environ: dict[str, str]
    stop: Callable[[], None]
    start: Callable[[], None]
    read: Callable[[int], Told]
    """All that has arrived; waits until there are so many different events."""


@contextmanager
def kafka() -> Iterator[Broker]:
    """Apache Kafka, one node, a topic with eight partitions."""
    from servers.kafka import KafkaServer, records_in
    from servers.processes import private_folder

    with private_folder("kafka") as folder:
        server = KafkaServer(folder)
        environ = {
            "KAFKA_BOOTSTRAP_SERVERS": server.bootstrap,
            "PAYNOW_EVENTS__KAFKA__TOPIC": TOPIC,
            "PAYNOW_EVENTS__KAFKA__CREATE_TOPIC": "true",
            "PAYNOW_EVENTS__KAFKA__REPLICATION_FACTOR": "1",
        }
        try:
            server.start()
            yield Broker("kafka", environ, server.stop, server.start, lambda count: _told([r.value for r in asyncio.run(records_in(server, TOPIC))]))
        finally:
            server.stop()


@contextmanager
def rabbitmq() -> Iterator[Broker]:
    """RabbitMQ, one node, one durable queue."""
    from servers.processes import UNPRIVILEGED, private_folder
    from servers.rabbitmq import RabbitmqServer

    with private_folder("rabbitmq", user=UNPRIVILEGED) as folder:
        server = RabbitmqServer(folder)
        names = {f"PAYNOW_EVENTS__RABBITMQ__{key}": f"{TOPIC}.{key}" for key in ("EXCHANGE", "QUEUES", "DEAD_LETTER_EXCHANGE", "DEAD_LETTER_QUEUE")}
        try:
            server.start()
            read = lambda count: asyncio.run(_consumed(server.url, f"{TOPIC}.QUEUES", count))  # noqa: E731
            yield Broker("rabbitmq", {"AMQP_URL": server.url, **names}, server.stop, server.start, read)
        finally:
            server.close()


BROKERS = {"kafka": kafka, "rabbitmq": rabbitmq}


def measure(stage: Stage, broker: Broker, *, seconds: float, warmup_s: float, payments: int, crowd: Crowd, say: Voice) -> dict[str, Any]:
    """The three of them. Raises `Broken` if an event is missing, comes out of order, or has two ids."""
    database = PAYNOW.database or ""
    environ = {**broker.environ, "PAYNOW_EVENTS__SINKS": broker.name}
    inside = replace(PAYNOW, environ=environ)
    apart = replace(PAYNOW, environ={**environ, "PAYNOW_EVENTS__RELAY": "false"})
    stage.make_database(database)
    paynow_database(stage, database, crowd.customers)
    found: dict[str, Any] = {}

    with at_work(apart, stage) as serving:
        load = close_loop(Load(serving.port, "backlog", seconds, crowd))
    backlog = stage.number(database, "select count(*) from outbox")
    with _relay(stage, apart):
        _until(lambda: stage.number(database, BEGUN) > 0)
        began = time.monotonic()
        _until(lambda: stage.number(database, BEHIND) == 0)
        found |= {"backlog": backlog, "drained_per_s": backlog / (time.monotonic() - began)}
    say(f"a backlog of {backlog:,} events drained at {found['drained_per_s']:,.0f}/s")
    check_all_accepted(PAYNOW, load)

    with at_work(inside, stage) as serving:
        warm = close_loop(Load(serving.port, "warm", warmup_s, crowd))
        with _sampled(lambda: stage.number(database, BEHIND)) as behind:
            load = close_loop(Load(serving.port, "full", seconds, crowd))
        check_all_accepted(PAYNOW, warm, load)
        found |= {"decisions_per_s": load.accepted_per_s, "behind_at_most": max(behind), "delivered_after_s": check_drained(stage, database)}
    say(f"at {load.accepted_per_s:,.0f} decisions/s at most {max(behind):,} events behind, all delivered {found['delivered_after_s']:.1f} s later")

    rate = payments / OUTAGE_LOAD_S
    with at_work(apart, stage) as serving, _faults(stage, apart, broker, say) as kills:
        load = generator.run(Load(serving.port, "outage", OUTAGE_LOAD_S, crowd, rate=rate))
        check_all_accepted(PAYNOW, load)
        found |= {
            "outage_payments": load.accepted,
            "outage_p99_ms": load.p99_ms,
            "relays_killed": kills,
            "outage_over_after_s": check_drained(stage, database, DRAINED_WITHIN_S),
        }
    stored = stage.number(database, PAYNOW.stored or "")
    say(f"{stored:,} decisions; reading what has arrived")
    told = broker.read(stored)
    found |= {"events": stored, "repeats": _check(told, dict(stage.run(database, "select event_id::text, sequence from event_log")), stored)}
    check_audit(stage, database)
    return {**found, "lost": 0, "audit": "clean"}


def _check(told: Told, sequences: dict[str, int], stored: int) -> int:
    """How many came again. Raises `Broken`."""
    first: dict[str, int] = {}
    known: set[str] = set()
    for event_id, key, sequence in told:
        if event_id in known:
            continue
        known.add(event_id)
        if sequences.get(event_id) != sequence or first.get(key, 0) + 1 != sequence:
            raise Broken(f"event {event_id} is {sequence} of its customer, and comes after {first.get(key, 0)}")
        first[key] = sequence
    if known != set(sequences) or len(known) != stored:
        raise Broken(f"of {stored} decisions and {len(sequences)} events {len(known)} arrived")
    return len(told) - len(known)


@contextmanager
def _relay(stage: Stage, rival: Rival) -> Iterator[subprocess.Popen[bytes]]:
    process = _started(stage, rival)
    try:
        yield process
    finally:
        stop(process)


def _started(stage: Stage, rival: Rival) -> subprocess.Popen[bytes]:
    environ = {**paynow_environment(stage, rival.database or ""), **rival.environ}
    with (stage.folder / "relay.log").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "paynow", "relay"], cwd=stage.folder, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )


@contextmanager
def _faults(stage: Stage, rival: Rival, broker: Broker, say: Voice) -> Iterator[int]:
    """Two relays, of which one after the other is killed and started again, while the broker is away for a minute."""
    relays = [_started(stage, rival), _started(stage, rival)]
    ended = threading.Event()
    began = time.monotonic()

    def kill(number: int) -> None:
        relays[number % 2].kill()
        relays[number % 2].wait()
        relays[number % 2] = _started(stage, rival)
        say(f"relay {number % 2 + 1} killed and started again")

    acts: list[tuple[float, Callable[[], None]]] = [(at_s, lambda number=number: kill(number)) for number, at_s in enumerate(KILLS_AT_S)]
    acts += [(OUTAGE_BEGINS_S, broker.stop), (OUTAGE_ENDS_S, broker.start)]

    def play() -> None:
        for at_s, act in sorted(acts, key=lambda entry: entry[0]):
            if ended.wait(max(0.0, began + at_s - time.monotonic())):
                return
            act()

    player = threading.Thread(target=play)
    player.start()
    try:
        yield len(KILLS_AT_S)
    finally:
        ended.set()
        player.join()
        for relay in relays:
            stop(relay)


@contextmanager
def _sampled(sample: Callable[[], int]) -> Iterator[list[int]]:
    samples = [sample()]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(1.0):
            samples.append(sample())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield samples
    finally:
        ended.set()
        looking.join()


def _until(seen: Callable[[], bool]) -> None:
    until = time.monotonic() + DRAINED_WITHIN_S
    while not seen():
        if time.monotonic() > until:
            raise Broken("the relay does not get on")
        time.sleep(POLL_S)


def _told(bodies: list[bytes]) -> Told:
    events = [orjson.loads(body) for body in bodies]
    return [(event["id"], event["partitionkey"], int(event["sequence"])) for event in events]


async def _consumed(url: str, queue_name: str, count: int) -> Told:
    import aio_pika

    bodies: list[bytes] = []
    known: set[str | None] = set()
    async with asyncio.timeout(READ_WITHIN_S), await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1000)
        queue = await channel.get_queue(queue_name)
        async with queue.iterator(no_ack=True) as messages:
            async for message in messages:
                bodies.append(message.body)
                known.add(message.message_id)
                if len(known) >= count and (await channel.get_queue(queue_name)).declaration_result.message_count == 0:
                    break
    return _told(bodies)
