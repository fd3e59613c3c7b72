"""The allow and block lists over HTTP: the next payment sees them, and every change names its author."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest

from database import execute
from reviews import REVIEWS, clients, get, make_keys, post
from service import RunningService, body, open_account


@pytest.fixture(scope="module")
def module_environ() -> dict[str, str]:
    return REVIEWS


async def send(client, method: str, path: str, document: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    async with client.request(method, path, **({} if document is None else {"json": document})) as response:
        return response.status, await response.json(content_type=None)


async def decided(client, customer_id: str, key: str, amount: str = "1.00") -> str:
    return (await post(client, "/api/payments/decide", body(customer_id, amount, key, payeeId=f"p_of_{customer_id}")))[1]["decision"]


async def test_a_change_acts_on_the_next_payment(module_service: RunningService) -> None:
    open_account(module_service.dsn, "c_next", 1_000_000)
    async with module_service.client() as client:
        assert await decided(client, "c_next", "k-1") == "allow"
        await send(client, "PUT", "/api/lists/customer/c_next/block", {"reason": "fraud ring"})
        assert await decided(client, "c_next", "k-2") == "block"
        assert (await send(client, "DELETE", "/api/lists/customer/c_next/block"))[1]["removed"] is True
        assert await decided(client, "c_next", "k-3") == "allow"
        assert await decided(client, "c_next", "k-4", "50.00") == "review"
        await send(client, "PUT", "/api/lists/payee/p_of_c_next/allow", {"reason": "known"})
        assert await decided(client, "c_next", "k-5", "50.00") == "allow"
        execute(module_service.dsn, "update lists set expires_at = now() where subject = 'p_of_c_next'")
        assert await decided(client, "c_next", "k-6", "50.00") == "review", "what has expired counts no longer"


async def test_an_entry_is_told_with_its_author_and_its_expiry(module_service: RunningService) -> None:
    ((key_id, _),) = keys = await make_keys(module_service.dsn, 1, ("lists:read", "lists:write"))
    until = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0)
    path = "/api/lists/customer/c_told/block"
    async with clients(module_service, keys) as (client,):
        status, entry = await send(client, "PUT", path, {"reason": "fraud ring", "expiresAt": until.isoformat()})
        assert status == 200
        assert {name: value for name, value in entry.items() if name != "addedAt"} == {
            "kind": "customer",
            "id": "c_told",
            "list": "block",
            "state": "valid",
            "reason": "fraud ring",
            "author": key_id,
            "expiresAt": until.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        assert await send(client, "PUT", path, {"reason": "fraud ring", "expiresAt": until.isoformat()}) == (200, entry), (
            "the same again changes nothing"
        )
        renewed = (await send(client, "PUT", path, {"reason": "still"}))[1]
        assert (renewed["reason"], renewed["expiresAt"], renewed["addedAt"] > entry["addedAt"]) == ("still", None, True)
        assert (await get(client, "/api/lists?id=c_told"))["items"] == [renewed]
        assert [(await send(client, "DELETE", path))[1]["removed"] for _ in range(2)] == [True, False]
    history = execute(module_service.dsn, "select removed, reason, author from list_history where subject = 'c_told' order by position")
    assert history == [(False, "fraud ring", key_id), (False, "still", key_id), (True, None, key_id)]


async def test_pages_lead_through_what_was_asked_for(module_service: RunningService) -> None:
    names = [("customer", f"c_page{n}", "block") for n in range(3)] + [("payee", "c_page0", "allow"), ("payee", "c_page0", "block")]
    async with module_service.client() as client:
        for kind, subject, listing in names:
            await send(client, "PUT", f"/api/lists/{kind}/{subject}/{listing}", {"reason": "r"})
        for limit in (1, 2, 200):
            found, cursor = [], ""
            while cursor is not None:
                page = await get(client, f"/api/lists?limit={limit}{cursor and '&cursor=' + cursor}")
                found += [(entry["kind"], entry["id"], entry["list"]) for entry in page["items"]]
                cursor = page["nextCursor"]
            assert [name for name in found if name[1].startswith("c_page")] == names
        for query, expected in (("id=c_page0", [names[0], *names[3:]]), ("id=c_page0&kind=payee&list=allow", [names[3]])):
            page = await get(client, f"/api/lists?{query}")
            assert [(entry["kind"], entry["id"], entry["list"]) for entry in page["items"]] == expected


async def test_many_who_put_the_same_entry_at_once_leave_one_and_its_history(module_service: RunningService) -> None:
    async with module_service.client() as client:
        answers = await asyncio.gather(*(send(client, "PUT", "/api/lists/payee/p_rush/block", {"reason": "same"}) for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert execute(module_service.dsn, "select count(*) from list_history where subject = 'p_rush'") == [(1,)]


@pytest.mark.parametrize(
    ("path", "document", "expected"),
    [
        ("merchant/c_1/block", {"reason": "r"}, (404, "not_found", None)),
        ("customer/c_1/grey", {"reason": "r"}, (404, "not_found", None)),
        ("customer/c%201/block", {"reason": "r"}, (400, "invalid_request", "id")),
        ("customer/c_1/block", {}, (400, "invalid_request", "reason")),
        ("customer/c_1/block", {"reason": "two\nlines"}, (400, "invalid_request", "reason")),
        ("customer/c_1/block", {"reason": "r" * 201}, (400, "invalid_request", "reason")),
        ("customer/c_1/block", {"reason": "r", "expiresAt": "2020-01-01T00:00:00Z"}, (400, "invalid_request", "expiresAt")),
        ("customer/c_1/block", {"reason": "r", "expiresAt": "2099-01-01T00:00:00"}, (400, "invalid_request", "expiresAt")),
        ("customer/c_1/block", {"reason": "r", "expiresAt": "tomorrow"}, (400, "invalid_request", "expiresAt")),
        ("customer/c_1/block", {"reason": "r", "expiresAt": "2099-W01-1T00:00:00Z"}, (400, "invalid_request", "expiresAt")),
        ("customer/c_1/block", {"reason": "r", "expiresAt": "2099-01-01T00Z"}, (400, "invalid_request", "expiresAt")),
        ("customer/c_1/block", {"reason": "r", "until": "x"}, (400, "invalid_request", "until")),
    ],
)
async def test_what_can_be_no_entry_is_refused(module_service: RunningService, path: str, document: dict, expected: tuple) -> None:
    async with module_service.client() as client:
        status, problem = await send(client, "PUT", f"/api/lists/{path}", document)
    assert (status, problem["code"], problem["errors"][0]["field"] if "errors" in problem else None) == expected
    assert execute(module_service.dsn, "select 1 from lists where subject = 'c_1'") == []


async def test_reading_and_writing_have_scopes_of_their_own(module_service: RunningService) -> None:
    keys = await make_keys(module_service.dsn, 1, ("lists:read",)) + await make_keys(module_service.dsn, 1, ("lists:write",))
    async with clients(module_service, keys) as (reader, writer):
        assert (await send(reader, "PUT", "/api/lists/customer/c_1/block", {"reason": "r"}))[0] == 403
        assert (await send(reader, "DELETE", "/api/lists/customer/c_1/block"))[0] == 403
        assert (await send(writer, "GET", "/api/lists"))[0] == 403
        assert (await send(writer, "GET", "/api/lists/customer/c_1/block"))[1]["code"] == "method_not_allowed"


@pytest.mark.parametrize("statement", ["update list_history set author = 'me'", "delete from list_history", "truncate list_history"])
async def test_nobody_changes_the_history_of_the_lists(module_service: RunningService, statement: str) -> None:
    with pytest.raises(psycopg2.errors.RestrictViolation, match="append-only"):
        execute(module_service.dsn, statement)
