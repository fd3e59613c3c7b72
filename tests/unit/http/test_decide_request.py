"""What a decision is asked with: what is accepted, and that everything else is refused by its field and never repeated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from multidict import CIMultiDict

from bad_bodies import ABSENT, BAD_BODIES, CANARY, CANARY_DIGITS, JSON_TYPE, VALID, BadBody, body, header, written

Client = TestClient[Any, Any]


async def ask(door: Client, raw: bytes, headers: tuple[tuple[str, str], ...] = (JSON_TYPE,)) -> tuple[int, dict[str, Any]]:
    async with door.post("/decide", data=raw, headers=CIMultiDict(headers)) as response:
        return response.status, await response.json(content_type=None)


async def understood(door: Client, raw: bytes, headers: tuple[tuple[str, str], ...] = (JSON_TYPE,)) -> dict[str, Any]:
    status, document = await ask(door, raw, headers)
    assert status == 200, document
    return document


def test_the_table_is_long_and_its_names_are_unique() -> None:
    assert len(BAD_BODIES) >= 60
    assert len({bad.name for bad in BAD_BODIES}) == len(BAD_BODIES)


@pytest.mark.parametrize("bad", BAD_BODIES, ids=lambda bad: bad.name)
async def test_a_bad_body_is_refused_by_its_field_and_not_repeated(door: Client, bad: BadBody) -> None:
    async with door.post("/decide", data=bad.raw, headers=CIMultiDict(bad.headers)) as response:
        text = await response.text()
        told = text + str(response.headers)
    assert response.status == bad.status, text
    assert response.content_type == "application/problem+json"
    problem = json.loads(text)
    assert problem["retryable"] is False
    if bad.field is not None:
        assert bad.field in [fault["field"] for fault in problem["errors"]]
        assert all(fault["message"] and fault["code"] for fault in problem["errors"])
    assert CANARY not in told
    assert CANARY_DIGITS not in told
    assert len(text) < 4_000


async def test_only_the_wrong_field_is_named(door: Client) -> None:
    for bad in BAD_BODIES:
        if bad.name.startswith(("amount: ", "currency: ", "customerId: ", "payeeId: ", "idempotencyKey: ")):
            _, problem = await ask(door, bad.raw, bad.headers)
            assert [fault["field"] for fault in problem["errors"]] == [bad.field], bad.name


async def test_all_faults_are_told_at_once_in_the_order_of_the_fields(door: Client) -> None:
    raw = body(customerId="", payeeId=ABSENT, amount="much", currency="usd", note=1, idempotencyKey=ABSENT)
    status, problem = await ask(door, raw)
    assert status == 400
    assert [(fault["field"], fault["code"]) for fault in problem["errors"]] == [
        ("idempotencyKey", "required"),
        ("customerId", "format"),
        ("payeeId", "required"),
        ("amount", "format"),
        ("currency", "currency"),
        ("note", "unknown"),
    ]


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        (body(amount="0.125"), "decimals", "must have at most 2 decimals in USD"),
        (body(amount="10000000000000.01"), "range", "must be at most 10000000000000.00 in USD"),
        (written("amount", "1e400"), "range", "is larger than any payment may be"),
        (written("amount", "1e-400"), "decimals", "must have at most 2 decimals in USD"),
        (body(amount=ABSENT), "required", 'is missing: it must be a decimal greater than zero in major units, such as "125.50"'),
        (body(amount=None), "type", 'must be a decimal greater than zero in major units, such as "125.50"'),
        (body(customerId=7), "type", "must be text: 1 to 64 of the characters A-Z a-z 0-9 _ . : -"),
        (body(currency="usd"), "currency", "must be an ISO 4217 currency code in capitals, such as USD"),
        (body(note=1), "unknown", "is not a field of this request; the fields are amount, currency, customerId, idempotencyKey, payeeId"),
    ],
)
async def test_a_fault_says_what_was_expected(door: Client, raw: bytes, code: str, message: str) -> None:
    _, problem = await ask(door, raw)
    assert [(fault["code"], fault["message"]) for fault in problem["errors"]] == [(code, message)]


async def test_of_thousands_of_wrong_names_a_few_are_told(door: Client) -> None:
    names = [f"{first}{second}" for first in "abcdefghij" for second in "abcdefghij"]
    _, problem = await ask(door, body(**dict.fromkeys(names, 1)))
    assert [fault["field"] for fault in problem["errors"]] == names[:10]


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ('"125.50"', "USD", 12550),
        ("125.5", "USD", 12550),
        ("125.500", "USD", 12550),
        ('"125.500"', "USD", 12550),
        ("125", "USD", 12500),
        ("1255e-1", "USD", 12550),
        ("1.255E+2", "USD", 12550),
        ("0.01", "USD", 1),
        ("0.29", "USD", 29),
        ("1.15", "USD", 115),
        ('"0125.50"', "USD", 12550),
        ("5", "JPY", 5),
        ("5.0", "JPY", 5),
        ("0.125", "BHD", 125),
        ("1.0001", "CLF", 10001),
        ("10000000000000.00", "USD", 10**15),
        ('"1000000000000000"', "JPY", 10**15),
    ],
)
async def test_an_amount_is_read_exactly(door: Client, amount: str, currency: str, minor: int) -> None:
    raw = written("amount", amount).replace(b'"USD"', json.dumps(currency).encode())
    assert (await understood(door, raw))["amount_minor"] == minor


async def test_equal_amounts_have_equal_fingerprints_and_other_payments_others(door: Client) -> None:
    same = [written("amount", text) for text in ("125.5", '"125.50"', "125.500", "12550e-2")]
    same += [body(idempotencyKey="another"), json.dumps(dict(reversed(VALID.items()))).encode()]
    assert len({(await understood(door, raw))["fingerprint"] for raw in same}) == 1
    others = [body(), body(amount="125.51"), body(currency="EUR"), body(payeeId="p_2"), body(customerId="c_2"), body(amount="12550", currency="JPY")]
    assert len({(await understood(door, raw))["fingerprint"] for raw in others}) == len(others)


@pytest.mark.parametrize(
    ("key", "headers", "understood_as"),
    [
        ("k 1", (JSON_TYPE,), "k 1"),
        (ABSENT, header("Idempotency-Key", "k-1"), "k-1"),
        (None, header("Idempotency-Key", "k-1"), "k-1"),
        ("k-1", header("Idempotency-Key", "k-1"), "k-1"),
        (ABSENT, header("Idempotency-Key", '"k-1"'), "k-1"),
        ("k-1", header("Idempotency-Key", '"k-1"'), "k-1"),
        (ABSENT, header("idempotency-key", '"a \\"b\\" \\\\c"'), 'a "b" \\c'),
        (ABSENT, header("Idempotency-Key", '"'), '"'),
        ("~" * 255, (JSON_TYPE,), "~" * 255),
    ],
)
async def test_the_key_comes_in_the_body_or_the_header(door: Client, key: Any, headers: tuple[tuple[str, str], ...], understood_as: str) -> None:
    assert (await understood(door, body(idempotencyKey=key), headers))["key"] == understood_as


@pytest.mark.parametrize("field", ["customerId", "payeeId"])
async def test_ids_have_1_to_64_characters(door: Client, field: str) -> None:
    for value in ("a", "A_.:-9", "z" * 64):
        assert value in (await understood(door, body(**{field: value}))).values()
