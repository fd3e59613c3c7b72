"""Explanations for a running service: one at a time, on a thread, so that decisions do not wait for them; few may wait for their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from paynow.explain.again import PastPolicies
from paynow.explain.document import explanation
from paynow.payments.answer import payment_json, reasons_json
from paynow.payments.recorded import read_answer
from paynow.plugin_api import Field
from paynow.store import Store
from paynow.store.records import StoredPayment
from paynow.turns import Turns

TEXTS_KEPT_MAX = 64
WAITING_MAX = 32
WAIT_MAX_S = 10.0


class Explanations:
    """Explains stored payments. `declared` are the outputs of the tools that are enabled, whether they are in the plan or not."""

    def __init__(self, store: Store, declared: Mapping[str, Mapping[str, Field]]) -> None:
        self._store = store
        self._declared = declared
        self._texts: dict[str, str] = {}
        self._policies = PastPolicies(declared, self._texts.get)
        self._turns = Turns(at_once_max=1, waiting_max=WAITING_MAX, wait_max_s=WAIT_MAX_S)
        # One thread of its own: who goes away gives up the turn, and the next one still begins only when the thread has ended with it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explanations")

    async def close(self) -> None:
        """What has not begun does not begin any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def of(self, payment_id: UUID) -> dict[str, Any] | None:
        """The explanation of a payment as a document, or None if there is no such payment. Raises `Overloaded` and the store's refusals."""
        async with self._turns.take():
            stored = await self._store.payments.find(payment_id)
            if stored is None:
                return None
            await self._know(stored.policy_version)
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._explained, stored)

    async def _know(self, version: str) -> None:
        if version in self._texts:
            return
        policy = await self._store.administration.policy(version)
        if policy is not None:
            if len(self._texts) >= TEXTS_KEPT_MAX:
                self._texts.clear()
            self._texts[version] = policy.body

    def _explained(self, stored: StoredPayment) -> dict[str, Any]:
        recorded = read_answer(stored.answer)
        return {
            **payment_json(stored.payment),
            "decision": recorded.decision,
            "reasons": reasons_json(recorded.reasons),
            "degraded": recorded.degraded,
            "policyVersion": recorded.policy_version,
            "decidedAt": recorded.decided_at,
            **explanation(stored.payment, recorded, self._policies, self._declared),
        }
