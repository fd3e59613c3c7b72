"""Real events: what a running service tells of payments that are decided, captured, released, reviewed, resolved, and left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from reviews import REVIEWS, get, post
from service import body, open_account, running
from waiting import eventually_async

CUSTOMERS = ("c_1", "c_2", "c_3")
ENVIRON = {**REVIEWS, "PAYNOW_RESERVATIONS__TTL": "3s"}
EACH = 12
"""So many events there are of each customer."""


async def told(dsn: str, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The events as the relay handed them over, with every type that a payment can bring, and the schema that the service serves."""
    for customer in CUSTOMERS:
        open_account(dsn, customer, 100_000)
    with running(dsn, folder, ENVIRON) as service:
        async with service.client() as client:
            for customer in CUSTOMERS:
                await _pay(client, customer)

            async def all_of_them() -> list[dict[str, Any]]:
                events = (await get(client, "/api/events/recent?limit=200"))["items"]
                return events[::-1] if len(events) == EACH * len(CUSTOMERS) else []

            return await eventually_async(all_of_them, within_s=20), await get(client, "/api/events/schema.json")


async def _pay(client: aiohttp.ClientSession, customer: str) -> None:
    """4.25 and 20.00 are captured, one payment is left until its reservation expires, and one is blocked: there is no account in its currency."""

    async def decide(amount: str, expected: str, **changes: str) -> dict[str, Any]:
        status, answer = await post(client, "/api/payments/decide", body(customer, amount, f"k-{amount}", **changes))
        assert (status, answer["decision"]) == (200, expected)
        return answer

    async def act(path: str) -> None:
        status, answer = await post(client, path)
        assert status == 200, answer

    for amount, end in (("4.25", "capture"), ("2.50", "release")):
        await act(f"/api/payments/{(await decide(amount, 'allow'))['paymentId']}/{end}")
    approved, declined = await decide("20.00", "review"), await decide("30.00", "review")
    await act(f"/api/cases/{approved['caseId']}/approve")
    await act(f"/api/payments/{approved['paymentId']}/capture")
    await act(f"/api/cases/{declined['caseId']}/decline")
    await decide("3.75", "allow")
    await decide("5.00", "block", currency="EUR")
