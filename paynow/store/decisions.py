"""The two steps that write on the way of a payment, claim and settle, batched."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from paynow.plugin_api import Balance, Grant, Limit, Payment
from paynow.store.arrays import documents, flags, hexes, plain, texts, uuids
from paynow.store.batching import Batching, complete
from paynow.store.pool import Pool
from paynow.store.reads import activity_of
from paynow.store.records import Allowance, Claim, ClaimRequest, Seen, Settled, Settlement


class Decisions:
    """Claims and settlements. Each call serves one payment; those that come while all lanes are busy share a statement."""

    def __init__(self, pool: Pool, queries: dict[str, str], batching: Batching, *, lease_s: float, claim_is_durable: bool) -> None:
        self._pool = pool
        self._queries = queries
        self._lease = timedelta(seconds=lease_s)
        self._claim_is_durable = claim_is_durable
        self._claims = batching.batcher("claim", self._claim_batch, once_per=_slot, alike=_limit)
        self._settles = batching.batcher("settle", self._settle_batch, once_per=_customer)
        self._known = batching.batcher("key_known", self._known_batch)

    @property
    def waiting(self) -> int:
        """Claims, settlements and looks at keys that no statement has taken yet."""
        return self._claims.waiting + self._settles.waiting + self._known.waiting

    async def claim(self, request: ClaimRequest, limit: Limit | None) -> Claim:
        """Claims the key for this request, or says who has it. `limit` is the customer's, asked only if the key is new.

        Repeating it with the same token is harmless. Raises the pool's refusals.
        """
        return await self._claims((request, limit))

    async def settle(self, settlement: Settlement) -> Settled:
        """Stores the decision and moves the money, durably, or finds that the claim is not ours any more.

        Repeating it with the same token is harmless and gives the stored answer. Raises the pool's refusals.
        """
        return await self._settles(settlement)

    async def _claim_batch(self, batch: Sequence[tuple[ClaimRequest, Limit | None]]) -> list[Claim]:
        limit = batch[0][1]
        requests = [request for request, _ in batch]
        payments = [request.payment for request in requests]
        rows = await self._pool.call(
            "claim",
            self._queries["claim"],
            (
                texts([payment.customer_id for payment in payments]),
                texts([request.key for request in requests]),
                hexes([request.fingerprint for request in requests]),
                uuids([payment.payment_id for payment in payments]),
                texts([request.token for request in requests]),
                texts([payment.payee_id for payment in payments]),
                plain([payment.amount_minor for payment in payments]),
                texts([payment.currency for payment in payments]),
                texts([request.request_id for request in requests]),
                texts([request.policy_version for request in requests]),
                self._lease,
                limit and limit.per_second,
                limit and limit.burst,
                self._claim_is_durable,
            ),
        )
        claims: list[Claim | None] = [None] * len(batch)
        seen: list[Seen | None] = [None] * len(batch)
        for ordinal, outcome, payment_id, policy_version, answer, remaining, wait_s, reset_s, *read in rows:
            if ordinal is None:  # all of them are ours, as asked
                claims = [Claim("claimed", request.payment.payment_id, request.policy_version, None, None) for request in requests]
            elif outcome == "seen":
                available, reserved, *history = read
                seen[ordinal - 1] = Seen(Balance(available, reserved), activity_of(history))
            else:
                claims[ordinal - 1] = Claim(
                    outcome,
                    UUID(payment_id) if payment_id else requests[ordinal - 1].payment.payment_id,
                    policy_version or requests[ordinal - 1].policy_version,
                    answer and answer.encode(),
                    None if remaining is None else Allowance(remaining, wait_s, reset_s),
                )
        return [claim._replace(seen=look) if look else claim for claim, look in zip(complete(claims), seen, strict=True)]

    async def _settle_batch(self, batch: Sequence[Settlement]) -> list[Settled]:
        claims = [settlement.claim for settlement in batch]
        payments = [claim.payment for claim in claims]
        rows = await self._pool.call(
            "settle",
            self._queries["settle"],
            (
                texts([payment.customer_id for payment in payments]),
                texts([claim.key for claim in claims]),
                texts([claim.token for claim in claims]),
                uuids([payment.payment_id for payment in payments]),
                texts([payment.payee_id for payment in payments]),
                plain([payment.amount_minor for payment in payments]),
                texts([payment.currency for payment in payments]),
                texts([settlement.policy_version for settlement in batch]),
                plain([settlement.decided_at for settlement in batch]),
                texts([settlement.decision for settlement in batch]),
                flags([settlement.degraded for settlement in batch]),
                plain([settlement.reserved_until for settlement in batch]),
                uuids([settlement.event_id for settlement in batch]),
                documents([settlement.finished.answer for settlement in batch]),
                documents([settlement.finished.event_data for settlement in batch]),
                uuids([settlement.case and settlement.case.case_id for settlement in batch]),
                documents([settlement.case.reasons if settlement.case else b"" for settlement in batch]),
                flags([settlement.case_pending for settlement in batch]),
                plain([settlement.case and settlement.case.priority for settlement in batch]),
                plain([settlement.case and settlement.case.due_s for settlement in batch]),
            ),
        )
        if rows and rows[0][0] is None:  # all of them hold, as handed in
            return [Settled("settled", settlement.decision, settlement.finished.answer) for settlement in batch]
        settled: list[Settled | None] = [None] * len(batch)
        for ordinal, outcome, decision, answer in rows:
            # A settle that was repeated gets the first answer; else ours holds, and is not sent back.
            first = batch[ordinal - 1].finished.answer if outcome == "settled" and answer is None else answer and answer.encode()
            settled[ordinal - 1] = Settled(outcome, decision, first)
        return complete(settled)

    async def abandon(self, request: ClaimRequest) -> None:
        """Ends our own lease after a definite failure, so that the next try need not wait for it."""
        await self._pool.call("abandon", self._queries["abandon"], ([request.payment.customer_id], [request.key], [str(request.token)]))

    async def knows(self, customer_id: str, key: str) -> bool:
        """Whether the key is stored, in flight or decided."""
        return await self._known((customer_id, key))

    async def _known_batch(self, batch: Sequence[tuple[str, str]]) -> list[bool]:
        asked = (texts([customer for customer, _ in batch]), texts([key for _, key in batch]))
        return [known for (known,) in await self._pool.read("key_known", self._queries["key_known"], asked)]

    async def take(self, kind: str, subject: str, limit: Limit) -> Grant:
        """Takes one token of a bucket that holds over all processes."""
        rows = await self._pool.call("take_token", self._queries["take_token"], (kind, subject, limit.per_second, limit.burst))
        return Grant(*rows[0])

    async def abandoned(self, limit: int) -> list[tuple[Payment, str, bytes, str, str]]:
        """Claims whose lease has run out: the payment, its key, fingerprint, request id and policy version."""
        rows = await self._pool.read("abandoned_claims", self._queries["abandoned_claims"], (limit,))
        return [
            (Payment(UUID(payment_id), customer, payee, amount, currency), key, bytes(fingerprint), request_id, policy)
            for customer, key, fingerprint, payment_id, payee, amount, currency, request_id, policy in rows
        ]

    async def forget_keys(self, older_than_h: float, limit: int) -> int:
        """Removes decided keys whose retention is over, at most `limit`; returns how many."""
        return len(await self._pool.call("forget_keys", self._queries["forget_keys"], {"retention": timedelta(hours=older_than_h), "limit": limit}))


def _slot(item: tuple[ClaimRequest, Limit | None]) -> tuple[str, str]:
    return item[0].payment.customer_id, item[0].key


def _limit(item: tuple[ClaimRequest, Limit | None]) -> Limit | None:
    return item[1]


def _customer(settlement: Settlement) -> str:
    return settlement.claim.payment.customer_id
