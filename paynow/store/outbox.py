"""The outbox as the relay sees it: whose turn it is, what waits, what has been delivered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import orjson
import psycopg2

from paynow.errors import StoreUnavailable
from paynow.store.pool import Pool
from paynow.store.records import StoredEvent


class Outbox:
    """Events between the settle that wrote them and the sinks that take them. At most one relay at a time reads it."""

    def __init__(self, pool: Pool, queries: dict[str, str]) -> None:
        self._pool = pool
        self._queries = queries

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Whether this process may relay now. The turn is a lock of a session of its own: it ends with the process, however that ends."""
        connection = await self._pool.hold()
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(self._queries["take_relay_turn"])
                row = await cursor.fetchone()
            yield bool(row[0])
        except psycopg2.Error as error:
            raise StoreUnavailable(retry_after_s=1) from error
        finally:
            connection.close()

    async def pending(self, limit: int) -> list[StoredEvent]:
        """The first events that wait, in their order; a customer's in sequence."""
        rows = await self._pool.read("pending_events", self._queries["pending_events"], (limit,))
        return [StoredEvent(position, UUID(event_id), *middle, orjson.loads(data)) for position, event_id, *middle, data in rows]

    async def delivered(self, positions: Sequence[int]) -> None:
        """Forgets events that every sink has."""
        await self._pool.call("remove_events", self._queries["remove_events"], (list(positions),))

    async def dead_letter(self, positions: Sequence[int], sink: str, error: str) -> None:
        """Keeps aside, for one sink, what it refused for good."""
        await self._pool.call("add_dead_letters", self._queries["add_dead_letters"], (sink, error, list(positions)))

    async def lag(self) -> tuple[int, float]:
        """How many events wait, and how many seconds the oldest has."""
        rows = await self._pool.read("outbox_lag", self._queries["outbox_lag"])
        return rows[0][0], rows[0][1]
