"""The store as a whole: one pool, and the rooms that share it."""

from __future__ import annotations

from collections.abc import Callable

from paynow.resources import folder
from paynow.store.administration import Administration
from paynow.store.decisions import Decisions
from paynow.store.outbox import Outbox
from paynow.store.payments import Payments
from paynow.store.pool import Pool
from paynow.store.queries import load_queries
from paynow.store.reads import Reads


class Store:
    """Everything that PayNow keeps. Connections are opened when they are first needed."""

    def __init__(
        self,
        dsn: str,
        *,
        connections_max: int = 4,
        connect_timeout_s: float = 1.0,
        acquire_timeout_s: float = 0.5,
        statement_timeout_s: float = 1.5,
        lease_s: float = 10.0,
        claim_is_durable: bool = False,
        observe: Callable[[str, float, str], None] = lambda step, seconds, outcome: None,
    ) -> None:
        queries = load_queries(folder("sql") / "queries")
        self._pool = Pool(
            dsn,
            size=connections_max,
            connect_timeout_s=connect_timeout_s,
            acquire_timeout_s=acquire_timeout_s,
            statement_timeout_s=statement_timeout_s,
            observe=observe,
        )
        self.decisions = Decisions(self._pool, queries, lease_s=lease_s, claim_is_durable=claim_is_durable)
        self.reads = Reads(self._pool, queries)
        self.payments = Payments(self._pool, queries)
        self.outbox = Outbox(self._pool, queries)
        self.administration = Administration(self._pool, queries)

    @property
    def connections(self) -> tuple[int, int, int]:
        """Connections open and busy, and callers waiting."""
        return self._pool.counts

    async def close(self) -> None:
        """Closes the connections. Calls after it are refused."""
        await self._pool.close()
