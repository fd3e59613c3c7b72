"""Claim and settle as spans of the payment that they are for, the wait for a statement included."""

from __future__ import annotations

from typing import Any

from paynow.observability.spans import Spans
from paynow.plugin_api import Limit
from paynow.store.decisions import Decisions
from paynow.store.records import Claim, ClaimRequest, Settled, Settlement


class TracedDecisions(Decisions):
    """The same calls with the same answers. One that raises nothing says its outcome in its span."""

    def __init__(self, spans: Spans, *arguments: Any, **limits: Any) -> None:
        super().__init__(*arguments, **limits)
        self._spans = spans

    async def claim(self, request: ClaimRequest, limit: Limit | None) -> Claim:
        with self._spans.step("claim") as span:
            claim = await super().claim(request, limit)
            if span is not None:
                span.attributes["paynow.outcome"] = claim.outcome
            return claim

    async def settle(self, settlement: Settlement) -> Settled:
        with self._spans.step("settle") as span:
            settled = await super().settle(settlement)
            if span is not None:
                span.attributes["paynow.outcome"] = settled.outcome
            return settled
