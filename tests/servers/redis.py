"""A Redis of the tests' own, and a small Redis Cluster: to be stopped, started again with their data, and made to hang."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from database import server_folder
from servers import missing
from waiting import eventually

NODES = 3
SLOTS = 16_384
OWN = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "no", "--daemonize", "no")
"""Data survive the death of the process, but not of the machine, which no test asks for."""


CLUSTER = ("--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")


class RedisServer:
    """One server on a port of its own. `stop` and `start` keep the port and the data; `pause` makes it hang, with its connections open."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when it answers."""
        command = ["redis-server", "--port", str(self.port), "--dir", str(self._folder), *OWN, *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._answers, within_s=20)

    def stop(self) -> None:
        if self._process is not None:
            self.resume()
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def heal(self) -> None:
        """Runs, answers and holds nothing: whatever a test before has left."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        self.resume()
        self.call("FLUSHALL")

    def call(self, *command: str) -> Any:
        """One command over a connection of its own; its answer."""
        with redis.Redis(port=self.port, protocol=2, decode_responses=True, socket_timeout=10) as client:
            return client.execute_command(*command)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "redis-server has ended"
        try:
            return bool(self.call("PING"))
        except (redis.ConnectionError, redis.TimeoutError):
            return False


class RedisCluster:
    """Three masters without replicas. `url` names the first."""

    def __init__(self, folder: Path) -> None:
        self.nodes = []
        for number in range(NODES):
            own = folder / str(number)
            own.mkdir()
            options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()), *CLUSTER)
            self.nodes.append(RedisServer(own, *options))

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def start(self) -> None:
        """Returns when every node knows who has which slots."""
        for number, node in enumerate(self.nodes):
            node.start()
            node.call("CLUSTER", "ADDSLOTSRANGE", *self.slots_of(number))
            if number:
                bus = dict(zip(*[iter(self.nodes[0].call("CONFIG", "GET", "cluster-port"))] * 2, strict=True))["cluster-port"]
                node.call("CLUSTER", "MEET", "127.0.0.1", str(self.nodes[0].port), bus)
        self.well()

    def slots_of(self, number: int) -> tuple[str, str]:
        """The first and the last of the slots that a node has at the start."""
        return str(SLOTS * number // NODES), str(SLOTS * (number + 1) // NODES - 1)

    def well(self) -> None:
        """Returns when all nodes serve all slots."""
        eventually(lambda: all("cluster_state:ok" in str(node.call("CLUSTER", "INFO")) for node in self.nodes), within_s=30)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture(scope="session")
def session_redis() -> Iterator[RedisServer]:
    missing("redis-server")
    with server_folder() as folder:
        server = RedisServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def redis_server(session_redis: RedisServer) -> RedisServer:
    """The session's server, which runs and is empty."""
    session_redis.heal()
    return session_redis


@contextmanager
def running_cluster() -> Iterator[RedisCluster]:
    missing("redis-server")
    with server_folder() as folder:
        cluster = RedisCluster(folder)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def session_redis_cluster() -> Iterator[RedisCluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def own_redis_cluster() -> Iterator[RedisCluster]:
    """A cluster of this test alone, to be taken apart."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def redis_cluster(session_redis_cluster: RedisCluster) -> RedisCluster:
    """The session's cluster, whose nodes run and are empty."""
    for node in session_redis_cluster.nodes:
        node.resume()
    session_redis_cluster.well()
    for node in session_redis_cluster.nodes:
        node.heal()
    return session_redis_cluster
