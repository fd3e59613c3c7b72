"""The two steps that write on the way of a payment: claim and settle."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from paynow.plugin_api import Grant, Limit, Payment
from paynow.store.pool import Pool
from paynow.store.records import Allowance, Claim, ClaimRequest, Settled, Settlement


class Decisions:
    """Claims and settlements of single payments."""

    def __init__(self, pool: Pool, queries: dict[str, str], *, lease_s: float, claim_is_durable: bool) -> None:
        self._pool = pool
        self._queries = queries
        self._lease = timedelta(seconds=lease_s)
        self._claim_is_durable = claim_is_durable

    async def claim(self, request: ClaimRequest, limit: Limit | None) -> Claim:
        """Claims the key for this request, or says who has it. `limit` is the customer's, asked only if the key is new.

        Repeating it with the same token is harmless. Raises the pool's refusals.
        """
        payment = request.payment
        rows = await self._pool.call(
            "claim",
            self._queries["claim"],
            (
                [payment.customer_id],
                [request.key],
                [request.fingerprint],
                [str(payment.payment_id)],
                [str(request.token)],
                [payment.payee_id],
                [payment.amount_minor],
                [payment.currency],
                [request.request_id],
                [request.policy_version],
                self._lease,
                limit and limit.per_second,
                limit and limit.burst,
                self._claim_is_durable,
            ),
        )
        _, outcome, payment_id, policy_version, answer, remaining, wait_s, reset_s = rows[0]
        return Claim(
            outcome,
            payment_id and UUID(payment_id),
            policy_version,
            answer and answer.encode(),
            None if remaining is None else Allowance(remaining, wait_s, reset_s),
        )

    async def settle(self, settlement: Settlement) -> Settled:
        """Stores the decision and moves the money, durably, or finds that the claim is not ours any more.

        Repeating it with the same token is harmless and gives the stored answer. Raises the pool's refusals.
        """
        claim, payment = settlement.claim, settlement.claim.payment
        case = settlement.case
        rows = await self._pool.call(
            "settle",
            self._queries["settle"],
            (
                [payment.customer_id],
                [claim.key],
                [str(claim.token)],
                [str(payment.payment_id)],
                [payment.payee_id],
                [payment.amount_minor],
                [payment.currency],
                [claim.policy_version],
                [settlement.decided_at],
                [settlement.decision],
                [settlement.degraded],
                [settlement.reserved_until],
                [str(settlement.event_id)],
                [settlement.finished.answer.decode()],
                [settlement.finished.event_data],
                [settlement.if_short.answer.decode()],
                [settlement.if_short.event_data],
                [case and str(case.case_id)],
                [case and case.reasons],
                [settlement.case_pending],
            ),
        )
        _, _, decision, answer = rows[0]
        return Settled(decision, answer and answer.encode())

    async def abandon(self, request: ClaimRequest) -> None:
        """Ends our own lease after a definite failure, so that the next try need not wait for it."""
        await self._pool.call("abandon", self._queries["abandon"], ([request.payment.customer_id], [request.key], [str(request.token)]))

    async def knows(self, customer_id: str, key: str) -> bool:
        """Whether the key is stored, in flight or decided."""
        return bool((await self._pool.read("key_known", self._queries["key_known"], (customer_id, key)))[0][0])

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
