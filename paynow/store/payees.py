"""Facts about payees over all customers, counted behind the payments; the tools read them with a customer's activity."""

from __future__ import annotations

from typing import NamedTuple

from paynow.store.pool import Pool


class PayeeCount(NamedTuple):
    """How many settled payments were counted, and how many seconds the oldest has that is left, 0 if there is none."""

    payments: int
    behind_s: float


class Payees:
    """Counts settled payments for their payees: each once, and none is missed, whatever becomes of who counts."""

    def __init__(self, pool: Pool, queries: dict[str, str]) -> None:
        self._pool = pool
        self._queries = queries

    async def count(self, limit: int) -> PayeeCount | None:
        """Counts the next settled payments, at most `limit`; None while somebody else is at it. Raises the pool's refusals."""
        rows = await self._pool.call("count_payees", self._queries["count_payees"], (limit,))
        return PayeeCount(*rows[0]) if rows else None
