"""Pages: what a query may say, and cursors that lead exactly to the next page."""

from __future__ import annotations

import base64
from typing import Any
from uuid import UUID

import pytest
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st

from paynow.errors import InvalidRequest
from paynow.http import paging
from paynow.ids import new_id

Client = TestClient[Any, Any]
CANARY = "canary7f3a"


async def test_a_query_without_anything_asks_for_the_first_page(door: Client) -> None:
    async with door.get("/page") as response:
        assert await response.json() == {"limit": 50, "cursor": None, "filters": {}}


async def test_a_query_says_limit_cursor_and_filters(door: Client) -> None:
    async with door.get("/page?limit=200&cursor=abc&customerId=c_1&decision=review") as response:
        assert await response.json() == {"limit": 200, "cursor": "abc", "filters": {"customerId": "c_1", "decision": "review"}}


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ("limit=0", "limit", "range"),
        ("limit=201", "limit", "range"),
        ("limit=-1", "limit", "range"),
        ("limit=", "limit", "range"),
        ("limit=1.0", "limit", "range"),
        ("limit=%D9%A1", "limit", "range"),
        ("limit=5%0A", "limit", "range"),
        (f"limit={'9' * 5000}", "limit", "range"),
        (f"limit={CANARY}", "limit", "range"),
        ("limit=5&limit=5", "limit", "duplicate"),
        (f"decision={CANARY}", "decision", "choice"),
        ("decision=", "decision", "choice"),
        ("decision=ALLOW", "decision", "choice"),
        (f"customerId={CANARY}@example.com", "customerId", "format"),
        ("customerId=", "customerId", "format"),
        ("customerId=c_1%00", "customerId", "format"),
        ("customerId=c_1%0A", "customerId", "format"),
        (f"customerId={'c' * 65}", "customerId", "format"),
        (f"{CANARY}=1", "query", "unknown"),
        ("customerid=c_1", "query", "unknown"),
    ],
)
async def test_a_wrong_query_is_refused_by_its_field_and_not_repeated(door: Client, query: str, field: str, code: str) -> None:
    async with door.get(f"/page?{query}") as response:
        text = await response.text()
        assert response.status == 400
        assert [(fault["field"], fault["code"]) for fault in (await response.json())["errors"]] == [(field, code)]
    assert CANARY not in text


async def test_all_faults_of_a_query_are_told_at_once(door: Client) -> None:
    async with door.get("/page?limit=0&decision=maybe&customerId=!&who=me") as response:
        assert {fault["field"] for fault in (await response.json())["errors"]} == {"limit", "decision", "customerId", "query"}


@pytest.mark.parametrize(("count", "shown", "more"), [(0, 0, False), (1, 1, False), (3, 3, False), (4, 3, True)])
def test_a_page_says_whether_there_is_a_next_one(count: int, shown: int, more: bool) -> None:
    page = paging.page(range(10, 10 - count, -1), 3, lambda item: {"n": item}, lambda item: item)
    assert page["items"] == [{"n": 10 - place} for place in range(shown)]
    assert (page["nextCursor"] is not None) is more


def test_the_cursor_is_the_last_item_shown() -> None:
    ids = sorted((new_id("c_1") for _ in range(4)), reverse=True)
    page = paging.page(ids, 3, lambda item: {}, lambda item: item)
    assert paging.uuid_cursor(page["nextCursor"]) == ids[2]


@given(st.integers(0, 2**63 - 1), st.uuids())
def test_a_cursor_comes_back_as_it_went(number: int, identity: UUID) -> None:
    numbers = paging.page([number, number], 1, lambda item: {}, lambda item: item)
    assert paging.integer_cursor(numbers["nextCursor"]) == number
    identities = paging.page([identity, identity], 1, lambda item: {}, lambda item: item)
    assert paging.uuid_cursor(identities["nextCursor"]) == identity


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "é",
        "\ud800",
        "MTI!!",
        "MTI=",
        " MTI",
        CANARY,
        "A",
        cursor("one"),
        cursor("1_0"),
        cursor(" 10"),
        cursor("010"),
        cursor("1.0"),
        cursor("9" * 6000),
        cursor("01935d2e4a3c7b1e9c552f0e6d1a77c4"),
        cursor("{01935d2e-4a3c-7b1e-9c55-2f0e6d1a77c4}"),
        cursor("01935D2E-4A3C-7B1E-9C55-2F0E6D1A77C4"),
    ],
)
def test_what_is_no_cursor_of_ours_is_refused(text: str) -> None:
    for read in (paging.integer_cursor, paging.uuid_cursor):
        with pytest.raises(InvalidRequest) as refused:
            read(text)
        (fault,) = refused.value.errors
        assert (fault.field, fault.code) == ("cursor", "format")


def test_a_cursor_of_another_route_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        paging.uuid_cursor(cursor("12"))
    with pytest.raises(InvalidRequest):
        paging.integer_cursor(cursor("01935d2e-4a3c-7b1e-9c55-2f0e6d1a77c4"))


def test_no_cursor_is_the_beginning() -> None:
    assert paging.uuid_cursor(None) is None
    assert paging.integer_cursor(None) is None
