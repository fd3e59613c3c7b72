"""A real PayNow under test: `paynow serve` in a process of its own, its log kept line by line, stopped or killed by its process id."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from database import execute, way_to
from waiting import eventually

API_KEY = "the-key-of-the-tests-0123456789"
UNLIMITED = {"PAYNOW_RATE_LIMIT__CUSTOMER": "off", "PAYNOW_POLICY__FILE": str(Path(__file__).parent / "funds_only.toml")}
"""No customer's limit, and no rule about how many payments there are: for tests that send many."""


class RunningService:
    """One process. `log` grows while it runs; `client()` speaks to it with the tests' key."""

    def __init__(
        self, dsn: str, folder: Path, environ: Mapping[str, str] | None = None, *, arguments: tuple[str, ...] = (), quiet: bool = False
    ) -> None:
        """`quiet`: its log will not say on which port it serves, so it is told."""
        self.dsn = dsn
        self.log: list[str] = []
        told = _free_port() if quiet else 0
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PAYNOW_")},
            **way_to(dsn),
            "API_KEY": API_KEY,
            "LOG_HASH_KEY": "the-hash-key-of-the-tests",
            "PAYNOW_LOGGING__LEVEL": "DEBUG",
            **(environ or {}),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "paynow", "serve", "--port", str(told), *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.port = self._wait_for_port(told)
        except BaseException:
            self.process.kill()
            self._ended()
            raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **headers: str) -> aiohttp.ClientSession:
        """A client with the tests' key and as many connections as it needs."""
        return aiohttp.ClientSession(
            self.url, headers={"X-API-Key": API_KEY, **headers}, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=30)
        )

    @property
    def listens(self) -> bool:
        """Whether it takes connections."""
        return _answers(self.port)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of one event."""
        return [line for line in map(_parsed, list(self.log)) if line.get("event") == event]

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self._ended()

    def kill(self) -> None:
        """SIGKILL: nothing is said or tidied up."""
        self.process.send_signal(signal.SIGKILL)
        self._ended()

    def _ended(self) -> int:
        try:
            code = self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join(timeout=5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line.rstrip("\n"))

    def _wait_for_port(self, told: int) -> int:
        def serving() -> int | None:
            if self.process.poll() is not None:
                self._reader.join(timeout=5)
                raise AssertionError("paynow serve ended:\n" + "\n".join(self.log))
            return (told if _answers(told) else None) if told else next((line["port"] for line in self.lines("serving")), None)

        return int(eventually(serving, within_s=30))


def _parsed(line: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def running(
    dsn: str, folder: Path, environ: Mapping[str, str] | None = None, *, arguments: tuple[str, ...] = (), quiet: bool = False
) -> Iterator[RunningService]:
    """A service for the length of a block; it has to end by itself when it is told to."""
    service = RunningService(dsn, folder, environ, arguments=arguments, quiet=quiet)
    try:
        yield service
    finally:
        code = service.stop()
        assert code in (0, -signal.SIGKILL), f"paynow serve ended with {code}:\n" + "\n".join(service.log[-20:])


def open_account(dsn: str, customer_id: str, available_minor: int, currency: str = "USD") -> None:
    """An account with its opening credit, as an import makes it."""
    execute(dsn, "insert into customers (customer_id) values (%s) on conflict do nothing", customer_id)
    execute(
        dsn,
        "insert into accounts (customer_id, currency, available, opening, entry_seq) values (%s, %s, %s, %s, 1)",
        customer_id,
        currency,
        available_minor,
        available_minor,
    )
    execute(
        dsn,
        "insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change) values (%s, %s, 1, 'credit', %s, 0)",
        customer_id,
        currency,
        available_minor,
    )


def balance(dsn: str, customer_id: str, currency: str = "USD") -> tuple[int, int]:
    """Available and reserved, in minor units."""
    return execute(dsn, "select available, reserved from accounts where customer_id = %s and currency = %s", customer_id, currency)[0]


def body(customer_id: str = "c_1", amount: object = "1.00", key: str | None = "k-1", **changes: object) -> dict[str, object]:
    """A request as a caller sends it."""
    document: dict[str, object] = {"customerId": customer_id, "amount": amount, "currency": "USD", "payeeId": "p_1", "idempotencyKey": key}
    return {name: value for name, value in {**document, **changes}.items() if value is not None}


def audit(dsn: str, folder: Path) -> str:
    """`paynow audit`: its output if it finds nothing, an assertion if it finds something."""
    ended = subprocess.run(
        [sys.executable, "-m", "paynow", "audit"],
        cwd=folder,
        env={**os.environ, **way_to(dsn), "LOG_HASH_KEY": "the-hash-key-of-the-tests"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
