"""What the tools may ask of PostgreSQL: balances, activity, lists. The ports of the plugin API, as they really are."""

from __future__ import annotations

from paynow.plugin_api import Activity, Balance, Payment
from paynow.store.pool import Pool


class Reads:
    """Implements `Accounts`, `ActivityReader` and `Lists` of the plugin API."""

    def __init__(self, pool: Pool, queries: dict[str, str]) -> None:
        self._pool = pool
        self._queries = queries

    async def balance(self, customer_id: str, currency: str) -> Balance:
        """The customer's money in one currency; zeros if there is no such account."""
        rows = await self._pool.read("balance", self._queries["balance"], ([customer_id], [currency]))
        return Balance(rows[0][1], rows[0][2])

    async def activity(self, payment: Payment) -> Activity:
        """What the customer did, up to and including this attempt."""
        rows = await self._pool.read("activity", self._queries["activity"], ([payment.customer_id], [payment.currency], [payment.payee_id]))
        _, attempts, attempted, allowed, count, mean, known, payee_list, customer_list = rows[0]
        return Activity(*attempts, *attempted, *allowed, count, mean, known, payee_list, customer_list)

    async def listed(self, kind: str, subject: str) -> str:
        """`none`, `allow` or `block`."""
        return str((await self._pool.read("listed", self._queries["listed"], (kind, subject)))[0][0])

    async def ready(self) -> bool:
        """Whether the database carries out statements and takes writes."""
        return not (await self._pool.read("ready", self._queries["ready"]))[0][0]
