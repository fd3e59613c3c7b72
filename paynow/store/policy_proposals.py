"""Policies that were proposed, and what became of that: append-only, and judged one at a time."""

from __future__ import annotations

from paynow.store.pool import Pool
from paynow.store.records import PolicyProposal


class PolicyProposals:
    """The database holds that another key approves than the one that proposed, and that whatever comes at once is done once."""

    def __init__(self, pool: Pool, queries: dict[str, str]) -> None:
        self._pool = pool
        self._queries = queries

    async def propose(self, version: str, body: str, author: str) -> str:
        """Returns `proposed`, `known` (it is proposed already) or `active` (it is the active policy)."""
        return str((await self._pool.call("propose_policy", self._queries["propose_policy"], (version, body, author)))[0][0])

    async def judge(self, version: str, verdict: str, author: str) -> str:
        """`approved` or `refused`. Returns `done`, `already` (by the same key), `own`, `overtaken`, `closed` or `unknown`."""
        return str((await self._pool.call("judge_policy_proposal", self._queries["judge_policy_proposal"], (version, verdict, author)))[0][0])

    async def find(self, version: str) -> PolicyProposal | None:
        """The last proposal of a version, or None."""
        rows = await self._pool.read("policy_proposal", self._queries["policy_proposal"], (version,))
        return PolicyProposal(*rows[0]) if rows else None

    async def page(self, *, before: int | None, limit: int) -> list[PolicyProposal]:
        """At most `limit` proposals before a position, newest first, without their texts."""
        rows = await self._pool.read("policy_proposals", self._queries["policy_proposals"], {"before": before, "limit": limit})
        return [PolicyProposal(*row) for row in rows]
