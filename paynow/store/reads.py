"""What the tools may ask of PostgreSQL: balances, activity, lists. The ports of the plugin API, as they really are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paynow.plugin_api import Activity, Balance, Payment
from paynow.store.arrays import texts
from paynow.store.batching import Batching, complete
from paynow.store.pool import Pool


class Reads:
    """Implements `Accounts`, `ActivityReader` and `Lists` of the plugin API."""

    def __init__(self, pool: Pool, queries: dict[str, str], batching: Batching) -> None:
        self._pool = pool
        self._queries = queries
        self._balances = batching.batcher("balance", self._balance_batch)
        self._activities = batching.batcher("activity", self._activity_batch)

    @property
    def waiting(self) -> int:
        """What was asked and no statement has taken yet."""
        return self._balances.waiting + self._activities.waiting

    async def balance(self, customer_id: str, currency: str) -> Balance:
        """The customer's money in one currency; zeros if there is no such account."""
        return await self._balances((customer_id, currency))

    async def activity(self, payment: Payment) -> Activity:
        """What the customer did, up to and including this attempt."""
        return await self._activities(payment)

    async def _balance_batch(self, batch: Sequence[tuple[str, str]]) -> list[Balance]:
        asked = (texts([customer for customer, _ in batch]), texts([currency for _, currency in batch]))
        balances: list[Balance | None] = [None] * len(batch)
        for ordinal, available, reserved in await self._pool.read("balance", self._queries["balance"], asked):
            balances[ordinal - 1] = Balance(available, reserved)
        return complete(balances)

    async def _activity_batch(self, batch: Sequence[Payment]) -> list[Activity]:
        asked = (
            texts([payment.customer_id for payment in batch]),
            texts([payment.currency for payment in batch]),
            texts([payment.payee_id for payment in batch]),
        )
        activities: list[Activity | None] = [None] * len(batch)
        rows = await self._pool.read("activity", self._queries["activity"], asked)
        for ordinal, *history in rows:
            activities[ordinal - 1] = activity_of(history)
        return complete(activities)

    async def listed(self, kind: str, subject: str) -> str:
        """`none`, `allow` or `block`."""
        return str((await self._pool.read("listed", self._queries["listed"], (kind, subject)))[0][0])

    async def ready(self) -> bool:
        """Whether the database carries out statements and takes writes."""
        return not (await self._pool.read("ready", self._queries["ready"]))[0][0]


def activity_of(row: Sequence[Any]) -> Activity:
    """The columns of a customer's history, as functions/50_reads.sql gives them."""
    attempts, attempted, allowed, *others = row
    return Activity(*attempts, *attempted, *allowed, *others)
