"""Apache Kafka from its published jars: one node that is broker and controller (KRaft), with a listener that asks for a password beside the open one.

Maven fetches the jars (`kafka.pom.xml`); `PAYNOW_TEST_KAFKA` names the folder that holds them where it is not `.servers/kafka`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from servers import missing
from servers.processes import ServerProcess, free_ports, private_folder
from services import absent

JARS = Path(os.environ.get("PAYNOW_TEST_KAFKA") or Path(__file__).parents[2] / ".servers" / "kafka")
USERNAME, PASSWORD = "paynow", "the-password-of-the-tests"
JAVA = (
    "java",
    "-Xms128m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
API_VERSIONS = bytes.fromhex("0000000a 0012 0000 00000001 ffff")
"""The request ApiVersions, version 0, as number 1 and without a client's name; it is answered by that number."""


class KafkaServer:
    """One broker. Topics and what they hold outlive `stop` and `start`. It makes no topic by itself."""

    def __init__(self, folder: Path) -> None:
        self.port, self.password_port, controller = free_ports(3)
        properties = folder / "server.properties"
        properties.write_text(
            f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=OPEN://127.0.0.1:{self.port},PASSWORD://127.0.0.1:{self.password_port},CONTROLLER://127.0.0.1:{controller}
inter.broker.listener.name=OPEN
listener.security.protocol.map=OPEN:PLAINTEXT,PASSWORD:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
listener.name.password.sasl.enabled.mechanisms=PLAIN
listener.name.password.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{USERNAME}="{PASSWORD}";
log.dirs={folder / "data"}
auto.create.topics.enable=false
num.network.threads=1
num.io.threads=2
background.threads=1
log.retention.ms=-1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
controller.quorum.election.timeout.ms=200
"""
        )
        java = [*JAVA, "-cp", f"{JARS}/*"]
        storage = [*java, "kafka.tools.StorageTool", "format", "--cluster-id", "cGF5bm93LXRlc3RzLWlkMA", "--config", str(properties)]
        ServerProcess(storage, folder, {}, "storage.log").run()
        self._broker = ServerProcess([*java, "kafka.Kafka", str(properties)], folder, {}, "kafka.log")

    @property
    def bootstrap(self) -> str:
        """Where it takes anybody. The same over restarts."""
        return f"127.0.0.1:{self.port}"

    @property
    def password_bootstrap(self) -> str:
        """Where it takes `USERNAME` with `PASSWORD`, by SASL PLAIN."""
        return f"127.0.0.1:{self.password_port}"

    def start(self) -> None:
        """Starts it, or brings it back after `stop` or `kill`."""
        self._broker.start()
        self._broker.until_it_answers(self.port, API_VERSIONS, b"\x00")

    def stop(self) -> None:
        self._broker.stop()

    def kill(self) -> None:
        self._broker.kill()


async def records_in(server: KafkaServer, topic: str) -> list[ConsumerRecord]:
    """All that the topic holds, each partition's in order."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=server.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = consumer.assignment()
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += records
        return found
    finally:
        await consumer.stop()


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[KafkaServer]:
    """The session's Kafka. Tests that stop it start it again, and use topics of their own."""
    missing("java")
    if not list(JARS.glob("kafka_*.jar")):
        absent(f"the jars of Apache Kafka are not in {JARS}: mvn -f tests/servers/kafka.pom.xml dependency:copy-dependencies")
    with private_folder("kafka") as folder:
        server = KafkaServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
