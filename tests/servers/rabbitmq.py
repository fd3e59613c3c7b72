"""RabbitMQ from the system's package, as a node of its own: own data, own name, own port mapper, nothing of the system's instance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from servers import missing
from servers.processes import UNPRIVILEGED, ServerProcess, free_ports, private_folder
from waiting import meanwhile

Messages = list[AbstractIncomingMessage]

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
"""The scripts themselves: those in the path change to a user and folder that belong to the system's instance."""
MESSAGE_BYTES_MAX = 100_000
QUIET_SCHEDULERS = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
"""No waiting in loops, which would take the processor from the tests."""


class RabbitmqServer:
    """One node. Queues, exchanges and persistent messages outlive `stop` and `start`."""

    def __init__(self, folder: Path) -> None:
        self.port, distribution, mapper = free_ports(3)
        config, plugins = folder / "rabbitmq.conf", folder / "enabled_plugins"
        config.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"max_message_size = {MESSAGE_BYTES_MAX}\n"
            "disk_free_limit.absolute = 10MB\n"
            "vm_memory_high_watermark.absolute = 400MB\n"
            "log.console = true\n"
            "log.file = false\n"
        )
        plugins.write_text("[rabbitmq_consistent_hash_exchange].\n")
        environ = {
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(mapper),
            "RABBITMQ_NODENAME": f"paynow-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ALLOW_INPUT": "true",  # the script becomes the server, so that its process id is the server's
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-noinput {QUIET_SCHEDULERS}",
        }
        self._mapper = ServerProcess(["epmd", "-port", str(mapper), "-address", "127.0.0.1"], folder, {}, "epmd.log", user=UNPRIVILEGED)
        self._node = ServerProcess([str(PROGRAMS / "rabbitmq-server")], folder, environ, "rabbitmq.log", user=UNPRIVILEGED)

    @property
    def url(self) -> str:
        """The same over restarts."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Starts it, or brings it back after `stop` or `kill`."""
        if not self._mapper.runs:
            self._mapper.start()
        self._node.start()
        self._node.until_it_answers(self.port, b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00")

    def stop(self) -> None:
        self._node.stop()

    def kill(self) -> None:
        self._node.kill()

    def close(self) -> None:
        self._node.stop()
        self._mapper.stop()


async def taken_from(channel: AbstractChannel, queue_name: str, count: int) -> Messages:
    """Consumes until there were so many different messages."""
    taken: Messages = []

    async def take(message: AbstractIncomingMessage) -> None:
        taken.append(message)

    queue = await channel.get_queue(queue_name)
    tag = await queue.consume(take, no_ack=True)
    await meanwhile(lambda: len({message.message_id for message in taken}) >= count)
    await queue.cancel(tag)
    return taken


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitmqServer]:
    """The session's RabbitMQ. Tests that stop it start it again, and use names of their own."""
    missing("rabbitmq-server")
    missing("epmd")
    with private_folder("rabbitmq", user=UNPRIVILEGED) as folder:
        server = RabbitmqServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.close()
