"""Reading JSON strictly: exact numbers, and no work that grows faster than the body."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from bad_bodies import JSON_TYPE, VALID, body
from paynow.errors import InvalidRequest
from paynow.http.body import NotANumber, read_json_object
from small_door import small_door

Client = TestClient[Any, Any]
Read = Callable[[bytes], Awaitable[Any]]


@pytest.fixture
async def read(aiohttp_client: Callable[..., Awaitable[Client]]) -> Read:
    """Sends bytes, and gives back what the server read or raises what it raised."""
    outcome: list[Any] = []

    async def handler(request: web.Request) -> web.Response:
        try:
            outcome.append(await read_json_object(request, frozenset({"a"})))
        except InvalidRequest as refused:
            outcome.append(refused)
        return web.Response()

    app = web.Application(client_max_size=10**6)
    app.router.add_post("/", handler)
    client = await aiohttp_client(app)

    async def send(raw: bytes) -> Any:
        async with client.post("/", data=raw, headers=dict([JSON_TYPE])):
            came = outcome.pop()
        if isinstance(came, InvalidRequest):
            raise came
        return came

    return send


async def test_numbers_are_exact(read: Read) -> None:
    read_back = await read(b'{"a": 0.1, "b": 12345678901234567890123, "c": 1e2, "d": -0, "e": 1.10}')
    assert read_back == {"a": Decimal("0.1"), "b": 12345678901234567890123, "c": Decimal("1e2"), "d": 0, "e": Decimal("1.10")}
    assert str(read_back["e"]) == "1.10"
    assert not any(isinstance(value, float) for value in read_back.values())


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1" * 401, "0." + "1" * 400, "1e999999999999999999999"])
async def test_what_is_no_number_that_can_be_kept_stands_as_such(read: Read, text: str) -> None:
    assert isinstance((await read(b'{"a": %s}' % text.encode()))["a"], NotANumber)


async def test_a_name_that_stands_twice_is_told_only_if_it_is_a_field(read: Read) -> None:
    for raw, field in [(b'{"a": 1, "a": 1}', "a"), (b'{"b": 1, "b": 1}', "body"), (b'{"b": {"a": 1, "a": 2}}', "a")]:
        with pytest.raises(InvalidRequest) as refused:
            await read(raw)
        (fault,) = refused.value.errors
        assert (fault.field, fault.code) == (field, "duplicate")


async def test_finding_a_name_that_stands_twice_takes_no_longer_than_reading(read: Read) -> None:
    names = [str(number) for number in range(20_000)]
    raw = ("{" + ",".join(f'"{name}":1' for name in [*names, names[-1]]) + "}").encode()
    async with asyncio.timeout(2):
        with pytest.raises(InvalidRequest):
            await read(raw)


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"']
)
async def test_json_is_taken_in_utf_8(door: Client, content_type: str) -> None:
    async with door.post("/decide", data=body(), headers={"Content-Type": content_type}) as response:
        assert response.status == 200


async def test_white_space_around_the_object_is_taken(door: Client) -> None:
    async with door.post("/decide", data=b" \r\n\t" + body() + b"\n", headers=dict([JSON_TYPE])) as response:
        assert response.status == 200


async def test_a_compressed_body_is_read(door: Client) -> None:
    headers = dict([JSON_TYPE, ("Content-Encoding", "gzip")])
    async with door.post("/decide", data=gzip.compress(body()), headers=headers) as response:
        assert (await response.json())["customer_id"] == VALID["customerId"]


async def test_a_connection_that_ends_with_a_body_that_cannot_be_unpacked_says_so(door: Client) -> None:
    async with door.post("/decide", data=body(), headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}) as refused:
        assert (refused.status, refused.headers["Connection"]) == (400, "close")
    async with door.post("/decide", data=body(amount="0"), headers={"Content-Type": "application/json"}) as refused:
        assert (refused.status, "Connection" in refused.headers) == (400, False)


async def test_a_caller_who_leaves_in_the_middle_is_no_fault_of_ours() -> None:
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @web.middleware
    async def outermost(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        answered.set_result(response.status)
        return response

    app = small_door()
    app.middlewares.insert(0, outermost)
    # Not aiohttp's test server: that one cancels the handlers of callers who left, and the service does not.
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        _, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"POST /decide HTTP/1.1\r\nHost: door\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n" + body())
        await writer.drain()
        writer.close()
        async with asyncio.timeout(5):
            assert await answered == 400
    finally:
        await runner.cleanup()
