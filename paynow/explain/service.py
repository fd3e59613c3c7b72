"""Explanations for a running service: one at a time, on a thread, so that decisions do not wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from paynow.explain.again import PastPolicies
from paynow.explain.document import explanation
from paynow.payments.answer import payment_json, reasons_json
from paynow.payments.recorded import read_answer
from paynow.plugin_api import Field
from paynow.store import Store
from paynow.store.records import StoredPayment

TEXTS_KEPT_MAX = 64


class Explanations:
    """Explains stored payments. `declared` are the outputs of the tools that are enabled, whether they are in the plan or not."""

    def __init__(self, store: Store, declared: Mapping[str, Mapping[str, Field]]) -> None:
        self._store = store
        self._declared = declared
        self._texts: dict[str, str] = {}
        self._policies = PastPolicies(declared, self._texts.get)
        self._turn = asyncio.Lock()

    async def of(self, payment_id: UUID) -> dict[str, Any] | None:
        """The explanation of a payment as a document, or None if there is no such payment. Raises the store's refusals."""
        stored = await self._store.payments.find(payment_id)
        if stored is None:
            return None
        async with self._turn:
            await self._know(stored.policy_version)
            return await asyncio.to_thread(self._explained, stored)

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
