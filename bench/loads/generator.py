"""A load generator of our own, for what wrk cannot do: an open loop, in which requests leave at their times whatever became of those before.

Times count from the moment at which a request was to be sent, so that a stall of the server (or of the generator) is seen by every request that
it held up. Plain sockets and one epoll in a process of its own: it shares the processors with what it measures, and says what it took of them.
"""

from __future__ import annotations

import json
import random
import re
import resource
import select
import socket
import subprocess
import sys
import time
from array import array
from collections import deque
from dataclasses import asdict
from itertools import count
from typing import Any

from bench.loads import AMOUNT_MINOR_MAX, AMOUNT_MINOR_MIN, API_KEY, PATH, PAYEES, Answers, Crowd, Load
from bench.measures.figures import percentile
from bench.stage import ROOT

DRAIN_S = 10.0
CONNECT_TIMEOUT_S = 5.0
READ_BYTES = 65_536
REFUSALS = ("429", "503")

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


def run(load: Load) -> Answers:
    """Asks in a process of its own until the time is over and what is under way was answered, or given up."""
    ended = subprocess.run(
        [sys.executable, "-m", "bench.loads.generator"], input=json.dumps(asdict(load)), capture_output=True, text=True, check=True, cwd=ROOT
    )
    return Answers(**json.loads(ended.stdout))


class _Connection:
    """One connection, and the request that is under way on it: when it was to be sent, and what came of its answer so far."""

    __slots__ = ("due", "received", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=CONNECT_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0.0
        self.received = b""


class Generator:
    """One load, run once."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._request = _requests(load)
        self._poll = select.epoll()
        self._busy: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._open: dict[int, _Connection] = {}
        self._waiting: deque[float] = deque()
        self._accepted_us = array("I")
        self._refused_us = array("I")
        self._late_us = array("I")
        self._statuses: dict[str, int] = {}
        self._failed = 0

    def run(self) -> Answers:
        """Sends, receives, and sums up."""
        began = time.perf_counter()
        if self._load.rate is None:
            self._loop_closed(began + self._load.seconds)
        else:
            self._loop_open(began)
        stopped = time.perf_counter()
        while self._busy and time.perf_counter() < stopped + DRAIN_S:
            self._receive(0.1, again=None)
            self._send_waiting()
        self._failed += len(self._busy) + len(self._waiting)
        for connection in self._open.values():
            connection.socket.close()
        return self._sum_up(stopped - began)

    def _loop_closed(self, until: float) -> None:
        for _ in range(self._load.connections):
            self._send(time.perf_counter())
        while time.perf_counter() < until:
            self._receive(0.1, again=until)

    def _loop_open(self, began: float) -> None:
        rate = self._load.rate
        assert rate is not None
        asked, to_ask = 0, round(rate * self._load.seconds)
        while asked < to_ask:
            now = time.perf_counter()
            while asked < to_ask and began + asked / rate <= now:
                self._waiting.append(began + asked / rate)
                asked += 1
            self._send_waiting()
            self._receive(max(0.0, began + asked / rate - time.perf_counter()), again=None)

    def _send_waiting(self) -> None:
        while self._waiting and (self._idle or len(self._open) < self._load.connections_max):
            due = self._waiting.popleft()
            self._late_us.append(int((time.perf_counter() - due) * 1e6))
            self._send(due)

    def _send(self, due: float) -> None:
        try:
            connection = self._idle.pop() if self._idle else self._connect()
        except OSError:
            self._failed += 1
            return
        connection.due = due
        try:
            connection.socket.send(self._request())
        except OSError:
            self._failed += 1
            self._drop(connection)
        else:
            self._busy[connection.socket.fileno()] = connection

    def _connect(self) -> _Connection:
        connection = _Connection(self._load.port)
        self._open[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLIN)
        return connection

    def _receive(self, timeout_s: float, *, again: float | None) -> None:
        """Takes what has come. In a closed loop a connection that was answered asks again until `again`."""
        for descriptor, _ in self._poll.poll(timeout_s, 256):
            connection = self._open.get(descriptor)
            if connection is None:
                continue
            try:
                data = connection.socket.recv(READ_BYTES)
            except OSError:
                data = b""
            if not data:
                self._failed += self._busy.pop(descriptor, None) is not None
                self._drop(connection)
                if again is not None and time.perf_counter() < again:
                    self._send(time.perf_counter())
                continue
            received = connection.received + data if connection.received else data
            if not _whole(received):
                connection.received = received
                continue
            connection.received = b""
            now = time.perf_counter()
            self._note(received[9:12].decode(), int((now - connection.due) * 1e6))
            del self._busy[descriptor]
            self._idle.append(connection)
            if again is not None and now < again:
                self._send(now)

    def _drop(self, connection: _Connection) -> None:
        self._open.pop(connection.socket.fileno(), None)
        if connection in self._idle:
            self._idle.remove(connection)
        connection.socket.close()

    def _note(self, status: str, micros: int) -> None:
        self._statuses[status] = self._statuses.get(status, 0) + 1
        if status == "200":
            self._accepted_us.append(micros)
        elif status in REFUSALS:
            self._refused_us.append(micros)

    def _sum_up(self, seconds: float) -> Answers:
        accepted, refused, late = sorted(self._accepted_us), sorted(self._refused_us), sorted(self._late_us)
        used = resource.getrusage(resource.RUSAGE_SELF)
        return Answers(
            answered=sum(self._statuses.values()),
            accepted=len(accepted),
            failed=self._failed,
            seconds=seconds,
            p50_ms=percentile(accepted, 0.50) / 1000,
            p95_ms=percentile(accepted, 0.95) / 1000,
            p99_ms=percentile(accepted, 0.99) / 1000,
            p999_ms=percentile(accepted, 0.999) / 1000,
            max_ms=percentile(accepted, 1) / 1000,
            cpu_s=used.ru_utime + used.ru_stime,
            statuses=self._statuses,
            refused_p50_ms=percentile(refused, 0.50) / 1000,
            refused_p99_ms=percentile(refused, 0.99) / 1000,
            refused_max_ms=percentile(refused, 1) / 1000,
            late_p99_ms=percentile(late, 0.99) / 1000,
        )


def _whole(received: bytes) -> bool:
    """Whether this is one whole answer. Both servers tell its length."""
    end = received.find(b"\r\n\r\n")
    length = _LENGTH.search(received, 0, end + 2) if end >= 0 else None
    return length is not None and len(received) >= end + 4 + int(length[1])


def _requests(load: Load) -> Any:
    """A function that makes the next request."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\nContent-Length: "
    chance = random.Random(load.seed).random
    numbers = count(1)
    customers, favourite, prefix, span = load.crowd.customers, load.crowd.favourite_share, load.prefix, AMOUNT_MINOR_MAX - AMOUNT_MINOR_MIN + 1

    def make() -> bytes:
        customer = 0 if favourite and chance() < favourite else int(chance() * customers)
        amount = AMOUNT_MINOR_MIN + int(chance() * span)
        body = (
            f'{{"customerId":"c_{customer}","amount":"{amount // 100}.{amount % 100:02d}","currency":"USD",'
            f'"payeeId":"p_{int(chance() * PAYEES)}","idempotencyKey":"{prefix}-{next(numbers)}"}}'
        )
        return f"{head}{len(body)}\r\n\r\n{body}".encode()

    return make


def _main() -> None:
    told = json.load(sys.stdin)
    load = Load(**{**told, "crowd": Crowd(**told["crowd"])})
    json.dump(asdict(Generator(load).run()), sys.stdout)


if __name__ == "__main__":
    _main()
