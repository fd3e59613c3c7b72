"""What callers send in any field, header, path or query, or in what is no HTTP at all, stands in no log line, metric or problem."""

from __future__ import annotations

import asyncio
import json
import socket

import aiohttp
import pytest

from canaries import heard
from paynow.http.schemas import ProblemSchema
from service import API_KEY, RunningService, body, open_account
from waiting import meanwhile

CANARY = "canary4539578763621486x"
AMOUNTS = ("773188.31", "77318831", "783188.31", "78318831")
HEADERS = (
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Authorization",
    "Cookie",
    "Forwarded",
    "From",
    "If-None-Match",
    "Origin",
    "Range",
    "Referer",
    "Traceparent",
    "Tracestate",
    "User-Agent",
    "Via",
    "X-Forwarded-For",
    "X-Real-Ip",
    f"X-{CANARY}",
)
PATHS = (
    f"/{CANARY}",
    f"/api/{CANARY}",
    f"/api/payments?customerId={CANARY}%20&decision={CANARY}&limit={CANARY}&cursor={CANARY}&{CANARY}={CANARY}",
    f"/api/payments/{CANARY}",
    f"/api/accounts/{CANARY}.none?x={CANARY}",
    f"/api/cases?status={CANARY}&cursor={CANARY}",
    f"/api/cases/{CANARY}",
    f"/api/events/recent?cursor={CANARY}",
    f"/docs/errors/{CANARY}",
    f"/docs/assets/{CANARY}",
)


KEY = f"X-API-Key: {API_KEY}\r\n".encode()
DECIDE = b"POST /api/payments/decide HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
NO_HTTP = {
    "a line": b"%s\r\n\r\n",
    "an unknown method": b"%s /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method with a NUL": b"GE\0%s / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": b"GET /%s HTTP/%s\r\n\r\n",
    "two targets": b"GET /%s %s HTTP/1.1\r\nHost: x\r\n\r\n",
    "a control character in the target": b"GET /\x01%s HTTP/1.1\r\nHost: x\r\n\r\n",
    "a host that is none": b"GET http://[::1%s/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a port that is none": b"GET http://a:%s/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long target": b"GET /" + b"%s" * 2_000 + b" HTTP/1.1\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nX: " + b"%s" * 2_000 + b"\r\n\r\n",
    "a space in a header's name": b"GET / HTTP/1.1\r\n%s x: y\r\n\r\n",
    "a NUL in a header": b"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: \0%s\r\n\r\n",
    "a length that is no number": DECIDE + b"Content-Length: %s\r\n\r\n",
    "two lengths": DECIDE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n%s",
    "an unknown transfer encoding": DECIDE + b"Transfer-Encoding: %s\r\n\r\n",
    "a chunk's size that is no number": DECIDE + KEY + b"Transfer-Encoding: chunked\r\n\r\n%s\r\n",
    "TLS": b"\x16\x03\x01\x02\0\x01%s",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n%s",
    "an expectation where there is no route": b"POST /x HTTP/1.1\r\nHost: x\r\nExpect: %s\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.fixture(scope="module")
def module_environ() -> dict[str, str]:
    return {"PAYNOW_LOGGING__LEVEL": "TRACE"}


async def told(service: RunningService) -> str:
    """The metrics in both forms, and the log up to their own lines."""
    found = []
    async with service.client() as client:
        for path in ("/metrics", "/api/metrics"):
            async with client.get(path) as response:
                found.append(await response.text())
                last = response.headers["X-Request-Id"]
    await meanwhile(lambda: any(last in line for line in service.log))
    return "\n".join([*found, *service.log])


async def test_canaries_of_a_valid_request_are_in_no_log_and_no_metric(module_service: RunningService) -> None:
    open_account(module_service.dsn, CANARY, 1_000_000_000)
    document = body(CANARY, "773188.31", f"{CANARY}-key", payeeId=f"{CANARY}.payee")
    headers = {**dict.fromkeys(HEADERS, CANARY), "X-Request-Id": f"{CANARY}@not-sane"}
    async with module_service.client(**headers) as client:
        async with client.post("/api/payments/decide", json=document) as response:
            assert response.status == 200
            assert heard([CANARY], str(response.headers)) == []
        for again in ({**document, "amount": "783188.31"}, {**document, "payeeId": f"{CANARY}.other"}):
            async with client.post("/api/payments/decide", json=again) as response:
                assert (response.status, heard([CANARY, *AMOUNTS], await response.text())) == (422, [])
        for path in (f"/api/payments?customerId={CANARY}", f"/api/accounts/{CANARY}"):
            async with client.get(path) as response:
                assert (response.status, heard([CANARY], await response.text())) == (200, [CANARY])
    assert heard([CANARY, *AMOUNTS], await told(module_service)) == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_canaries_in_paths_and_queries_are_in_no_problem_and_no_log(module_service: RunningService, method: str) -> None:
    async with module_service.client(**dict.fromkeys(HEADERS, CANARY)) as client:
        for path in PATHS:
            async with client.request(method, path, allow_redirects=False) as response:
                answer = await response.text() + str(response.headers)
            assert 400 <= response.status < 500, path
            assert heard([CANARY], answer) == [], path
    assert heard([CANARY], await told(module_service)) == []


@pytest.mark.parametrize("header", ["X-API-Key", "Authorization", "Cookie"])
async def test_a_wrong_key_is_not_repeated(module_service: RunningService, header: str) -> None:
    for value in (CANARY, f"Bearer {CANARY}", f"pn_{CANARY}_{CANARY}", f"Basic {CANARY}"):
        async with aiohttp.ClientSession(module_service.url) as client, client.get("/api/payments", headers={header: value}) as response:
            assert (response.status, heard([CANARY], await response.text() + str(response.headers))) == (401, [])
    assert heard([CANARY, API_KEY], await told(module_service)) == []


def answered(port: int, sent: bytes) -> bytes:
    """All that the service says to these bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        with connection.makefile("rb") as answer:
            return answer.read()


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP.keys())
async def test_what_is_no_http_is_told_so_without_its_bytes(module_service: RunningService, sent: bytes) -> None:
    answer = await asyncio.to_thread(answered, module_service.port, sent.replace(b"%s", CANARY.encode()))
    head, _, document = answer.partition(b"\r\n\r\n")
    problem = json.loads(document)
    assert ProblemSchema().validate(problem) == {}
    assert (head.split()[1], problem["code"]) == (b"400", "invalid_request")
    assert b"application/problem+json" in head
    assert f"X-Request-Id: {problem['requestId']}".encode() in head
    assert heard([CANARY], answer.decode()) == []
    everything = await told(module_service)
    assert problem["requestId"] in everything
    assert heard([CANARY], everything) == []
    assert not [line for line in module_service.log if '"level":"ERROR"' in line]
