"""Bad input gets a clear problem that names the field, changes nothing, and appears nowhere; canaries in every place of a request stay there."""

from __future__ import annotations

import json

import pytest

from database import execute
from service import RunningService, body, open_account

CANARY = "canary4539578763621486x"


def changed(**changes: object) -> bytes:
    return json.dumps({**body(), **changes}).encode()


def raw(field: str, text: str) -> bytes:
    """The body with one field's value written as given."""
    fields = {name: json.dumps(value) for name, value in body().items()}
    fields[field] = text
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()


def without(field: str) -> bytes:
    return json.dumps({name: value for name, value in body().items() if name != field}).encode()


LARGE = "9" * 5000
WRONG_TYPES = ("null", "true", "[]", "{}", f'["{CANARY}"]', f'{{"a":"{CANARY}"}}')
BAD: list[tuple[str, bytes]] = [
    *((field, raw(field, text)) for field in ("customerId", "payeeId", "currency", "amount", "idempotencyKey") for text in WRONG_TYPES),
    *((field, without(field)) for field in ("customerId", "payeeId", "currency", "amount", "idempotencyKey")),
    *(
        ("amount", raw("amount", text))
        for text in ("NaN", "Infinity", "-Infinity", "1e400", "-1", "0", "-0", "0.0", "0.001", "1.005", "1e-9", LARGE, "1e999999999")
    ),
    *(
        ("amount", changed(amount=text))
        for text in ("", " 1.00", "1,00", "1.00 ", "+1.00", "-1.00", "1e2", "NaN", "0x10", "1.", ".5", "１.00", LARGE, CANARY)
    ),
    ("amount", changed(amount="0.125")),
    ("amount", changed(amount="1.5", currency="JPY")),
    ("amount", changed(amount="1.2345", currency="BHD")),
    ("amount", changed(amount="9999999999999999")),
    *(("currency", changed(currency=text)) for text in ("usd", "XXX1", "", "US", "ZZZ", "XAU", CANARY)),
    *(("customerId", changed(customerId=text)) for text in ("", "a" * 65, "a b", "a\n", "a\u0000b", "é", f"{CANARY}@example.org")),
    *(("payeeId", changed(payeeId=text)) for text in ("", "p" * 65, "p/1", f"{CANARY} ")),
    *(("idempotencyKey", changed(idempotencyKey=text)) for text in ("", "k" * 256, "ké", "k\n", f"{CANARY}\u0007")),
    ("customerId", raw("customerId", '"\\ud800"')),
    ("customer_id", changed(customer_id=CANARY)),
    ("body", changed(**{CANARY: 1})),
    ("amount", b'{"amount":"1.00",' + changed()[1:]),
    ("body", b""),
    ("body", b"null"),
    ("body", b"[]"),
    ("body", b'"' + CANARY.encode() + b'"'),
    ("body", changed()[:-1]),
    ("body", changed() + b"x"),
    ("body", b"\xff\xfe" + CANARY.encode()),
    ("body", changed().decode().encode("utf-16")),
    ("body", b"\xef\xbb\xbf" + changed()),
    ("body", changed().replace(b"c_1", b"c\x00_1")),
    ("body", b'{"customerId":"' + b"\xc3\x28" + b'"}'),
    ("body", b"[" * 20_000),
    ("body", b'{"a":' * 9_000 + b"1" + b"}" * 9_000),
]


@pytest.mark.parametrize("number", range(len(BAD)))
async def test_a_bad_body_is_refused_with_its_field_and_nothing_else_happens(module_service: RunningService, number: int) -> None:
    field, sent = BAD[number]
    async with module_service.client(**{"Content-Type": "application/json"}) as client, client.post("/api/payments/decide", data=sent) as response:
        problem = await response.json(content_type="application/problem+json")
    assert response.status == 400, problem
    assert field in [fault["field"] for fault in problem["errors"]], problem
    assert CANARY not in json.dumps(problem)
    assert execute(module_service.dsn, "select count(*) from idempotency_keys")[0][0] == 0


async def test_header_and_body_key_that_differ_are_refused(module_service: RunningService) -> None:
    async with module_service.client(**{"Idempotency-Key": CANARY}) as client, client.post("/api/payments/decide", json=body()) as response:
        problem = await response.json(content_type="application/problem+json")
    assert (response.status, problem["errors"][0]["field"]) == (400, "idempotencyKey")
    assert CANARY not in json.dumps(problem)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"])
async def test_another_content_type_is_415(module_service: RunningService, kind: str) -> None:
    async with module_service.client(**{"Content-Type": kind}) as client, client.post("/api/payments/decide", data=changed()) as response:
        assert response.status == 415


async def test_a_body_too_large_is_413(module_service: RunningService) -> None:
    large = b" " * 70_000
    async with module_service.client(**{"Content-Type": "application/json"}) as client, client.post("/api/payments/decide", data=large) as response:
        assert response.status == 413


async def test_canaries_of_a_valid_request_are_in_no_log_and_no_metric(module_service: RunningService) -> None:
    open_account(module_service.dsn, CANARY, 100_000)
    document = body(CANARY, "77.31", f"{CANARY}-key", payeeId=f"{CANARY}.payee")
    headers = {"X-Custom": CANARY, "User-Agent": CANARY, "Referer": CANARY, "X-Request-Id": f"{CANARY}@not-sane"}
    async with module_service.client(**headers) as client:
        async with client.post("/api/payments/decide", json=document) as response:
            assert response.status == 200
        async with client.post("/api/payments/decide", json={**document, "amount": "78.31"}) as response:
            assert (response.status, CANARY in await response.text()) == (422, False)
        for path in (f"/api/{CANARY}", f"/api/payments/{CANARY}", f"/api/accounts/{CANARY}?x={CANARY}", f"/api/payments?cursor={CANARY}"):
            async with client.get(path) as response:
                await response.read()
        for path in ("/metrics", "/api/metrics"):
            async with client.get(path) as response:
                assert CANARY not in await response.text()
        async with client.get("/api/payments", headers={"X-API-Key": CANARY}) as response:
            assert (response.status, CANARY in await response.text()) == (401, False)
    log = "\n".join(module_service.log)
    assert CANARY not in log
    assert "77.31" not in log
    assert "7731" not in log
