"""Reviews for tests: payments that people have to look at, and keys of people who work on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from paynow.api_keys import SCOPES, new_key
from paynow.store import Store
from paynow.store.records import StoredKey
from service import RunningService, body

POLICY = Path(__file__).parent / "reviews.toml"
REVIEWS = {"PAYNOW_RATE_LIMIT__CUSTOMER": "off", "PAYNOW_POLICY__FILE": str(POLICY)}
"""No customer's limit, and every payment of 10.00 and more is reviewed."""

Result = TypeVar("Result")
CASE_SCOPES = ("cases:read", "cases:write")


async def make_keys(dsn: str, count: int, scopes: tuple[str, ...] = CASE_SCOPES) -> list[tuple[str, str]]:
    """So many keys, each with its id and its text."""
    assert set(scopes) <= set(SCOPES)
    made = [new_key() for _ in range(count)]
    store = Store(dsn)
    try:
        for number, key in enumerate(made):
            await store.administration.add_key(
                StoredKey(key.key_id, f"analyst {number}", key.sha256, scopes, None, None, datetime.now(UTC), None, None, None)
            )
    finally:
        await store.close()
    return [(key.key_id, key.text) for key in made]


@asynccontextmanager
async def clients(service: RunningService, keys: list[tuple[str, str]]) -> AsyncIterator[list[aiohttp.ClientSession]]:
    """A client for each key."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(service.client(**{"X-API-Key": text})) for _, text in keys]


async def reviewed(client: aiohttp.ClientSession, customer_id: str, key: str, amount: str = "20.00") -> dict[str, Any]:
    """A decision that people have to look at."""
    async with client.post("/api/payments/decide", json=body(customer_id, amount, key)) as response:
        answer = await response.json()
    assert (response.status, answer["decision"]) == (200, "review"), answer
    assert answer["caseId"]
    return answer


async def post(client: aiohttp.ClientSession, path: str, document: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """A status, and the answer or problem."""
    async with client.post(path, **({} if document is None else {"json": document})) as response:
        return response.status, await response.json(content_type=None)


async def get(client: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    """An answer; an assertion if it is a problem."""
    async with client.get(path) as response:
        document = await response.json(content_type=None)
    assert response.status == 200, document
    return document


async def everybody(clients: list[aiohttp.ClientSession], path: str) -> list[tuple[int, dict[str, Any]]]:
    """The same request by all clients at once."""
    return await asyncio.gather(*(post(client, path) for client in clients))


def in_a_loop_of_its_own(work: Coroutine[Any, Any, Result]) -> Result:
    """For fixtures that outlive the loop of one test."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
