"""Each kind of value lets its own shape through and nothing else."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from http import HTTPStatus
from uuid import UUID

import pytest

from paynow.observability import shapes
from paynow.observability.shapes import WITHHELD

CARD = "4111111111111111"


class Colour(StrEnum):
    RED = "red"


class Step(IntEnum):
    ONE = 1


class Hostile(str):
    """Text whose own methods lie; a check must not run them."""

    __slots__ = ()

    def __str__(self) -> str:
        return CARD

    def __eq__(self, other: object) -> bool:
        raise AssertionError("code of the value was run")

    __hash__ = str.__hash__


@pytest.mark.parametrize(
    ("check", "value", "written"),
    [
        (shapes.number, 12, 12),
        (shapes.number, 1.23456, 1.235),
        (shapes.number, Step.ONE, 1),
        (shapes.number, HTTPStatus.OK, 200),
        (shapes.whole, -3, -3),
        (shapes.flag, False, False),
        (shapes.uuid, UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (shapes.uuid, "01920000-0000-7000-8000-00000000ABCD", "01920000-0000-7000-8000-00000000ABCD"),
        (shapes.word, "getBalance", "getBalance"),
        (shapes.word, "payments:decide", "payments:decide"),
        (shapes.word, Colour.RED, "red"),
        (shapes.word, Hostile("blue"), "blue"),
        (shapes.code, "psycopg2.errors.UniqueViolation", "psycopg2.errors.UniqueViolation"),
        (shapes.route, "/", "/"),
        (shapes.route, "/api/payments/{paymentId}/capture", "/api/payments/{paymentId}/capture"),
        (shapes.route, "/api/openapi.json", "/api/openapi.json"),
        (shapes.route, "unmatched", "unmatched"),
        (shapes.several(shapes.word), ("velocity_1m", "new_payee"), ["velocity_1m", "new_payee"]),
        (shapes.several(shapes.word), [], []),
        (shapes.either(shapes.whole, shapes.word), "ok", "ok"),
        (shapes.like("[0-9a-f]+", numbers=True), "12345678", "12345678"),
    ],
)
def test_a_value_of_the_right_shape_is_written(check: shapes.Check, value: object, written: object) -> None:
    safe = check(value)
    assert safe == written
    assert type(safe) is type(written)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (shapes.number, int(CARD)),
        (shapes.number, -(10**12)),
        (shapes.number, float(CARD)),
        (shapes.number, float("nan")),
        (shapes.number, float("inf")),
        (shapes.number, True),
        (shapes.number, "12"),
        pytest.param(shapes.number, 10**5000, id="huge"),
        (shapes.whole, 1.0),
        (shapes.flag, 1),
        (shapes.flag, "true"),
        (shapes.uuid, "01920000-0000-7000-8000"),
        (shapes.uuid, "x" * 36),
        (shapes.uuid, 5),
        (shapes.word, CARD),
        (shapes.word, f"c_{CARD}"),
        (shapes.word, "DE89370400440532013000"),
        (shapes.word, "tel:5551234567"),
        (shapes.word, "ann@example.com"),
        (shapes.word, "two words"),
        (shapes.word, "line\nfeed"),
        (shapes.word, "tail\n"),
        (shapes.word, "ä"),
        (shapes.word, ""),
        (shapes.word, "a" * 65),
        (shapes.word, b"bytes"),
        (shapes.word, None),
        (shapes.code, "a-b"),
        (shapes.code, "a" * 82),
        (shapes.route, "/api/payments/01920000-0000-7000-8000-00000000abcd"),
        (shapes.route, "/api/accounts/c_123"),
        (shapes.route, "/api/accounts/C"),
        (shapes.route, "/api/payments?customerId=c"),
        (shapes.route, "/a" * 20),
        (shapes.method, "get"),
        (shapes.decision, "ALLOW"),
        (shapes.decision, Hostile("deny")),
        (shapes.several(shapes.word), ["fine", CARD]),
        (shapes.several(shapes.word), ["fine"] * 33),
        (shapes.several(shapes.word), "text"),
        (shapes.several(shapes.word), {"a": 1}),
        (shapes.like("[0-9a-f]+", numbers=True), CARD),
        (shapes.like(".*"), "a" * 129),
    ],
)
def test_a_value_of_another_shape_is_withheld(check: shapes.Check, value: object) -> None:
    assert check(value) is WITHHELD


@pytest.mark.parametrize("text", [CARD, "4111 1111 1111 1111", "4111-1111-1111-1111", f"req-{CARD}", "378282246310005", "6304000000000000000"])
def test_a_card_number_is_found(text: str) -> None:
    assert shapes.holds_card(text)


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",
        "411111111111",
        "01920000-1111-7111-8111-111111111111",
        "a4111111111111111",
        "4111111111111111f00d",
        "41111111111111111111",
        "9f86d081884c7d65",
        "",
    ],
)
def test_other_numbers_are_no_card_numbers(text: str) -> None:
    assert not shapes.holds_card(text)
