"""The store as a whole: one pool, and the rooms that share it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from paynow.observability.spans import Spans
from paynow.resources import folder
from paynow.store.administration import Administration
from paynow.store.batching import Batching
from paynow.store.cases import Cases
from paynow.store.decisions import Decisions
from paynow.store.event_log import EventLog
from paynow.store.lists import Lists
from paynow.store.payees import Payees
from paynow.store.payments import Payments
from paynow.store.policy_band import PolicyBand
from paynow.store.policy_proposals import PolicyProposals
from paynow.store.pool import Pool
from paynow.store.queries import load_queries
from paynow.store.reads import Reads
from paynow.store.shadows import Shadows
from paynow.store.traced_decisions import TracedDecisions

WAITING_MAX = 1_000


class Store:
    """Everything that PayNow keeps. Connections are opened when they are first needed."""

    def __init__(
        self,
        dsn: str,
        *,
        direct_dsn: str | None = None,
        pooled: bool = False,
        connections_max: int = 4,
        connect_timeout_s: float = 1.0,
        acquire_timeout_s: float = 0.5,
        statement_timeout_s: float = 1.5,
        lease_s: float = 10.0,
        claim_is_durable: bool = False,
        lanes: int = 2,
        batch_max: int = 128,
        observe: Callable[[str, float, str], None] = lambda step, seconds, outcome: None,
        observe_batch: Callable[[str, int], None] = lambda step, rows: None,
        spans: Spans | None = None,
    ) -> None:
        """`direct_dsn` and `pooled` as `Pool` has them."""
        queries = load_queries(folder("sql") / "queries")
        self._pool = Pool(
            dsn,
            direct_dsn=direct_dsn,
            pooled=pooled,
            size=connections_max,
            connect_timeout_s=connect_timeout_s,
            acquire_timeout_s=acquire_timeout_s,
            statement_timeout_s=statement_timeout_s,
            observe=observe,
        )
        batching = Batching(lanes, batch_max, waiting_max=WAITING_MAX, wait_max_s=acquire_timeout_s, observe=observe_batch, spans=spans)
        decisions = Decisions if spans is None else partial(TracedDecisions, spans)
        self.decisions = decisions(self._pool, queries, batching, lease_s=lease_s, claim_is_durable=claim_is_durable)
        self.reads = Reads(self._pool, queries, batching)
        self.payments = Payments(self._pool, queries)
        self.payees = Payees(self._pool, queries)
        self.cases = Cases(self._pool, queries)
        self.lists = Lists(self._pool, queries)
        self.events = EventLog(self._pool, queries)
        self.administration = Administration(self._pool, queries)
        self.shadows = Shadows(self._pool, queries)
        self.policy_band = PolicyBand(self._pool, queries)
        self.policy_proposals = PolicyProposals(self._pool, queries)

    @property
    def connections(self) -> tuple[int, int, int]:
        """Connections open and busy, and callers waiting."""
        return self._pool.counts

    @property
    def waiting(self) -> int:
        """Payments that wait until a statement takes them, over all steps."""
        return self.decisions.waiting + self.reads.waiting

    async def close(self) -> None:
        """Closes the connections. Calls after it are refused."""
        await self._pool.close()
