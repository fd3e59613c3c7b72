"""Reading JSON strictly: exact numbers, and no work that grows faster than the body."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import StreamReader, web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from bad_bodies import JSON_TYPE, VALID, body
from paynow.errors import InvalidRequest
from paynow.http.body import NotANumber, read_json_object
from small_door import small_door

Client = TestClient[Any, Any]


async def read(raw: bytes, known: frozenset[str] = frozenset()) -> Any:
    payload = StreamReader(asyncio.get_running_loop().create_future(), limit=2**16)  # type: ignore[arg-type]
    payload.feed_data(raw)
    payload.feed_eof()
    request = make_mocked_request("POST", "/", headers={"Content-Type": "application/json"}, payload=payload, client_max_size=10**6)
    return await read_json_object(request, known)


async def test_numbers_are_exact() -> None:
    read_back = await read(b'{"a": 0.1, "b": 12345678901234567890123, "c": 1e2, "d": -0, "e": 1.10}')
    assert read_back == {"a": Decimal("0.1"), "b": 12345678901234567890123, "c": Decimal("1e2"), "d": 0, "e": Decimal("1.10")}
    assert str(read_back["e"]) == "1.10"
    assert not any(isinstance(value, float) for value in read_back.values())


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1" * 401, "0." + "1" * 400, "1e999999999999999999999"])
async def test_what_is_no_number_that_can_be_kept_stands_as_such(text: str) -> None:
    assert isinstance((await read(b'{"a": %s}' % text.encode()))["a"], NotANumber)


async def test_a_name_that_stands_twice_is_told_only_if_it_is_a_field() -> None:
    for raw, field in [(b'{"a": 1, "a": 1}', "a"), (b'{"b": 1, "b": 1}', "body"), (b'{"b": {"a": 1, "a": 2}}', "a")]:
        with pytest.raises(InvalidRequest) as refused:
            await read(raw, frozenset({"a"}))
        (fault,) = refused.value.errors
        assert (fault.field, fault.code) == (field, "duplicate")


async def test_finding_a_name_that_stands_twice_takes_no_longer_than_reading() -> None:
    names = [str(number) for number in range(60_000)]
    raw = ("{" + ",".join(f'"{name}":1' for name in [*names, names[-1]]) + "}").encode()
    async with asyncio.timeout(2):
        with pytest.raises(InvalidRequest):
            await read(raw)
        await asyncio.sleep(0)


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


async def test_a_caller_who_leaves_in_the_middle_is_no_fault_of_ours(aiohttp_server: Callable[..., Awaitable[TestServer]]) -> None:
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @web.middleware
    async def outermost(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        answered.set_result(response.status)
        return response

    app = small_door()
    app.middlewares.insert(0, outermost)
    server = await aiohttp_server(app)
    _, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"POST /decide HTTP/1.1\r\nHost: door\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n" + body())
    await writer.drain()
    writer.close()
    async with asyncio.timeout(5):
        assert await answered == 400
