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

from paynow.http.gate import is_whole
from service import API_KEY, UNLIMITED, RunningService, body, open_account, running

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
    """As many payments as there is room for; they are being decided when this returns."""
    readers = [await crowd.send(request(f"k-{number}")) for number in range(IN_FLIGHT_MAX)]
    async with service.client() as client:
        for _ in range(3):  # what is answered now came after them
            assert (await client.get("/healthz")).status == 200
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
    assert float(turned_away[1]) == 1
    assert any("overloaded: payments are refused" in line for line in service.log)


@pytest.mark.parametrize(
    "more",
    [
        "Expect: 100-continue\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 5, 20\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked\r\n",
        "X-Folded: a\r\n b\r\n",
        "Upgrade: websocket\r\n",
    ],
)
def test_what_might_be_read_otherwise_is_left_to_aiohttp(more: str) -> None:
    assert is_whole(request("k"))
    assert is_whole(request("k", more="Connection: keep-alive\r\nX-Request-Id: given-by-caller\r\n"))
    assert not is_whole(request("k", more=more))
    assert not is_whole(request("k") + b"P")
    assert not is_whole(request("k").replace(b"\r\n", b"\n"))


async def test_a_request_in_two_pieces_is_refused_in_the_ordinary_way(service: RunningService, crowd: Crowd, database: str) -> None:
    whole = request("k-9", more="Connection: close\r\n")
    with held(database):
        readers = await fill(crowd, service)
        reader, writer = await crowd.connect()
        writer.write(whole[:-10])
        await writer.drain()
        writer.write(whole[-10:])
        status, headers, problem = await answer(reader)
        assert (status, problem["code"], headers["retry-after"]) == (503, "overloaded", "1")
    for each in readers:
        assert (await answer(each))[0] == 200


async def test_who_only_begins_takes_no_room(service: RunningService, crowd: Crowd, database: str) -> None:
    """Beginnings of requests that are never sent to their end, on connections that stay, and requests without a key: nobody else waits for them."""
    for number in range(3 * IN_FLIGHT_MAX):
        whole = request(f"begun-{number}")
        await crowd.send((whole[:27], whole[:50], whole[:-5], whole.replace(API_KEY.encode(), b"not-a-key"))[number % 4])
    assert (await answer(await crowd.send(request("k-6"))))[0] == 200


async def test_the_rest_of_a_request_is_never_taken_for_another(service: RunningService, crowd: Crowd, database: str) -> None:
    """A body that is itself a request, sent after its head: it is read as the body it is, also where its request has been answered already."""
    inner = request("k-7")
    with held(database):
        readers = await fill(crowd, service)
        torn, writer = await crowd.connect()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Filler: ")  # its head is not at an end
        await writer.drain()
        outer, body_writer = await crowd.connect()
        body_writer.write(head_of(inner))
        await body_writer.drain()
        early, late_writer = await crowd.connect()
        late_writer.write(head_of(inner * 3).replace(API_KEY.encode(), b"not-a-key"))
        assert (await answer(early))[0] == 401
        writer.write(inner)
        body_writer.write(inner)
        for _ in range(3):
            late_writer.write(inner)
            await late_writer.drain()
        status, _, problem = await answer(outer)
        assert (status, problem["code"]) == (400, "invalid_request")
        assert (await answer(torn))[0] != 503
        late_writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await early.read(12) in (b"", b"HTTP/1.1 200"), "one request, one answer"
    for each in readers:
        await answer(each)
