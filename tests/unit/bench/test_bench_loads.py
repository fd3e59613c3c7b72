"""What the load generators say is read exactly, and our own sends, counts and times as it should."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest

from bench.loads import Crowd, Load, generator, pgbench, wrk
from paynow.http.decide_request import read_decide_request

WRK = """Running 2s test @ http://127.0.0.1:1/api/payments/decide
  1 threads and 64 connections
figures {"requests": 100, "duration_us": 2000000, "errors": {"connect": 1, "read": 2, "write": 3, "status": 10, "timeout": 4}, \
"p50_us": 1500, "p95_us": 2500, "p99_us": 3500, "p999_us": 4500, "max_us": 5500}
"""
PGBENCH = """transaction type: <builtin: simple update>
number of transactions actually processed: 3000
number of failed transactions: 0 (0.000%)
latency average = 1.000 ms
tps = 1500.000000 (without initial connection time)
"""


def test_the_figures_of_wrk_are_read_and_refused_answers_are_not_accepted_ones() -> None:
    answers = wrk.parse(WRK, cpu_s=0.5)
    assert (answers.answered, answers.accepted, answers.failed, answers.seconds) == (100, 90, 10, 2.0)
    assert (answers.p50_ms, answers.p95_ms, answers.p99_ms, answers.p999_ms, answers.max_ms) == (1.5, 2.5, 3.5, 4.5, 5.5)
    assert answers.accepted_per_s == 45.0
    assert answers.cpu_s == 0.5


def test_wrk_without_figures_is_an_error_that_shows_what_it_said() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        wrk.parse("unable to connect", cpu_s=0)


def test_the_script_of_wrk_writes_the_line_that_is_read() -> None:
    assert f"'{wrk.FIGURES}{{" in wrk.SCRIPT.read_text(encoding="utf-8")


def test_the_figures_of_pgbench_are_read_and_its_times_come_from_its_log() -> None:
    log = [f"0 {number} {number * 1000} 0 1700000000 0" for number in range(1, 101)]
    answers = pgbench.parse(PGBENCH, log, cpu_s=0.1)
    assert (answers.accepted, answers.failed) == (3000, 0)
    assert answers.accepted_per_s == pytest.approx(1500)
    assert (answers.p50_ms, answers.p99_ms, answers.max_ms) == (50, 99, 100)


def test_pgbench_without_figures_is_an_error() -> None:
    with pytest.raises(ValueError, match="no figures"):
        pgbench.parse("connection refused", [], cpu_s=0)


class Service(socketserver.StreamRequestHandler):
    """Answers each request with the next of the statuses, in two pieces."""

    statuses: ClassVar[list[int]] = [200]
    bodies: ClassVar[list[dict]] = []

    def handle(self) -> None:
        while head := self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert head.startswith(b"POST /api/payments/decide ")
            self.bodies.append(json.loads(self.rfile.read(length)))
            status = self.statuses[len(self.bodies) % len(self.statuses)]
            self.wfile.write(b"HTTP/1.1 %d Any\r\nServer: x\r\nContent-Length: 4\r\n\r\n{}" % status)
            self.wfile.flush()
            self.wfile.write(b"\r\n")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def service(*statuses: int) -> Iterator[int]:
    Service.statuses, Service.bodies = list(statuses), []
    with Server(("127.0.0.1", 0), Service) as server:
        running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        running.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            running.join()


def test_the_closed_loop_is_answered_as_often_as_it_asks() -> None:
    with service(200) as port:
        answers = generator.Generator(Load(port, "k", 0.3, connections=4)).run()
    assert answers.answered == answers.accepted == len(Service.bodies) > 4
    assert answers.failed == 0
    assert 0 < answers.p50_ms <= answers.p99_ms <= answers.max_ms


def test_the_open_loop_asks_as_often_as_it_is_told() -> None:
    with service(200) as port:
        answers = generator.Generator(Load(port, "k", 0.5, rate=100)).run()
    assert answers.answered == 50
    assert answers.statuses == {"200": 50}


def test_refusals_are_counted_and_timed_apart() -> None:
    with service(200, 503) as port:
        answers = generator.Generator(Load(port, "k", 0.2, rate=100)).run()
    assert answers.statuses == {"200": 10, "503": 10}
    assert answers.accepted == 10
    assert 0 < answers.refused_p50_ms <= answers.refused_max_ms


def test_a_server_that_is_gone_is_a_failure_for_each_request() -> None:
    with service(200) as port:
        pass
    answers = generator.Generator(Load(port, "k", 0.1, rate=100)).run()
    assert (answers.answered, answers.failed) == (0, 10)


def test_every_payment_is_one_that_paynow_takes_under_a_key_of_its_own() -> None:
    with service(200) as port:
        generator.Generator(Load(port, "k", 0.2, Crowd(3, favourite_share=0.5), rate=500)).run()
    read = [read_decide_request(body, [], "the-request") for body in Service.bodies]
    assert len({request.key for request in read}) == len(read) == 100
    assert {request.customer_id for request in read} == {"c_0", "c_1", "c_2"}
    assert sum(request.customer_id == "c_0" for request in read) > 40
    assert all(1_000 <= request.amount_minor <= 9_999 for request in read)
