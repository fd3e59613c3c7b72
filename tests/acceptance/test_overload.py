"""More payments than the service takes at a time: those over it are told so at once, the others are decided, and nothing else is disturbed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg2 import connect

from service import API_KEY, UNLIMITED, RunningService, body, open_account, running
from waiting import eventually_async

IN_FLIGHT_MAX = 4
PATIENT = {"PAYNOW_DATABASE__STATEMENT_TIMEOUT_MS": "20000", "PAYNOW_AGENT__DEADLINE_MS": "20000", "PAYNOW_IDEMPOTENCY__LEASE_S": "60"}


@pytest.fixture
def service(database: str, tmp_path: Path) -> Iterator[RunningService]:
    open_account(database, "c_1", 1_000_000)
    with running(database, tmp_path, {**UNLIMITED, **PATIENT, "PAYNOW_SERVER__IN_FLIGHT_MAX": str(IN_FLIGHT_MAX)}) as started:
        yield started


@contextmanager
def held(dsn: str) -> Iterator[None]:
    """No payment is claimed meanwhile."""
    connection = connect(dsn)
    try:
        connection.cursor().execute("lock table attempts in share mode")
        yield
    finally:
        connection.close()


def request(key: str, *, more: str = "", amount: str = "1.00") -> bytes:
    document = json.dumps(body("c_1", amount, key)).encode()
    return head_of(document, more) + document


def head_of(document: bytes, more: str = "") -> bytes:
    fields = f"Host: x\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(document)}\r\n{more}"
    return f"POST /api/payments/decide HTTP/1.1\r\n{fields}\r\n".encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], dict]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    headers = {name.lower(): value for name, value in re.findall(r"^(\S+): (.*)\r$", head, re.MULTILINE)}
    return int(head.split(" ", 2)[1]), headers, json.loads(await reader.readexactly(int(headers["content-length"])))


class Crowd:
    """Connections of their own, and what comes back on them."""

    def __init__(self, service: RunningService) -> None:
        self._service = service
        self._open: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._service.port)
        self._open.append(writer)
        return reader, writer

    async def send(self, data: bytes) -> asyncio.StreamReader:
        reader, writer = await self.connect()
        writer.write(data)
        return reader

    def leave(self) -> None:
        for writer in self._open:
            writer.close()


@pytest.fixture
async def crowd(service: RunningService):
    made = Crowd(service)
    yield made
    made.leave()


async def fill(crowd: Crowd, service: RunningService) -> list[asyncio.StreamReader]:
    """As many payments as there is room for. Returns when the next one would be refused."""
    readers = [await crowd.send(request(f"k-{number}")) for number in range(IN_FLIGHT_MAX)]

    async def is_full() -> bool:
        reader = await crowd.send(request("k-0", amount="2.00"))  # refused for room, or for its body
        return (await answer(reader))[2]["code"] == "overloaded"

    await eventually_async(is_full)
    return readers


async def test_what_is_too_much_is_refused_at_once_and_the_rest_is_decided(service: RunningService, crowd: Crowd, database: str) -> None:
    with held(database):
        readers = await fill(crowd, service)
        reader, writer = await crowd.connect()
        writer.write(request("k-9", more="x-request-id: caller-chose-this\r\n"))
        status, headers, problem = await answer(reader)
        assert (status, headers["content-type"], headers["retry-after"]) == (503, "application/problem+json", "1")
        assert (problem["code"], problem["retryable"], problem["requestId"], headers["x-request-id"]) == (
            "overloaded",
            True,
            "caller-chose-this",
            "caller-chose-this",
        )
        async with service.client() as client:
            assert (await client.get("/healthz")).status == 200
    assert [(await answer(reader))[2]["decision"] for reader in readers] == ["allow"] * IN_FLIGHT_MAX
    writer.write(request("k-9"))  # on the connection that was refused
    assert (await answer(reader))[2]["decision"] == "allow"
    async with service.client() as client:
        exposition = await (await client.get("/metrics")).text()
    turned_away = re.search(r"^paynow_payments_turned_away_total (\S+)$", exposition, re.MULTILINE)
    assert turned_away is not None
    assert float(turned_away[1]) >= 2
    assert any("overloaded: payments are refused" in line for line in service.log)


@pytest.mark.parametrize(
    "more", ["Connection: close\r\n", "Expect: 100-continue\r\n", "Content-Length: 3\r\n"], ids=["closes", "waits to be asked", "two lengths"]
)
async def test_unusual_requests_are_left_to_aiohttp(service: RunningService, crowd: Crowd, database: str, more: str) -> None:
    with held(database):
        readers = await fill(crowd, service)
        reader = await crowd.send(request("k-8", more=more))
        first = await reader.read(12) if "Content" in more or "Expect" in more else b""
        assert b"503" not in first
    for each in readers:
        await answer(each)


async def test_the_rest_of_a_request_is_never_taken_for_another(service: RunningService, crowd: Crowd, database: str) -> None:
    """A body that is itself a request, sent after its head: it is read as the body it is."""
    inner = request("k-7")
    with held(database):
        readers = await fill(crowd, service)
        health = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Filler: "  # its head is not at an end
        torn, writer = await crowd.connect()
        writer.write(health)
        await writer.drain()
        outer, body_writer = await crowd.connect()
        body_writer.write(head_of(inner))
        await body_writer.drain()
        async with service.client() as client:
            assert (await client.get("/healthz")).status == 200  # by now both beginnings were read
        writer.write(inner)
        body_writer.write(inner)
        status, _, problem = await answer(outer)
        assert (status, problem["code"]) == (400, "invalid_request")
        status, _, _ = await answer(torn)
        assert status != 503
    for each in readers:
        await answer(each)


async def test_callers_that_go_away_leave_their_room(service: RunningService, crowd: Crowd, database: str) -> None:
    """Half a head or half a body each, then nothing: room is only held by what is being decided."""
    for number in range(3 * IN_FLIGHT_MAX):
        _, writer = await crowd.connect()
        whole = request(f"gone-{number}")
        writer.write(whole[: 50 if number % 2 else -5])
        await writer.drain()
        writer.close()

    async def decided() -> bool:
        reader = await crowd.send(request("k-6"))
        return (await answer(reader))[0] == 200

    await eventually_async(decided)
