"""Cases between the WRITE tool that asks for them and the settle that opens them with the decision."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import orjson

from paynow.cases.terms import terms_of
from paynow.ids import new_id
from paynow.payments.answer import reasons_json
from paynow.plugin_api import Payment, Verdict
from paynow.policy import Reason
from paynow.settings import CaseSettings
from paynow.store.records import Case


class StagedCases:
    """The `Cases` of the plugin API for one payment: at most one case, whoever asks and however often."""

    def __init__(self, reasons: Sequence[Reason], settings: CaseSettings, *, degraded: bool, score: int | None) -> None:
        self._reasons = reasons
        self._settings = settings
        self._degraded = degraded
        self._score = score
        self.case: Case | None = None

    def stage(self, payment: Payment, verdict: Verdict) -> UUID:
        """The id of the payment's case, to be opened with the decision."""
        if self.case is None:
            terms = terms_of(self._settings, payment, degraded=self._degraded, score=self._score)
            self.case = Case(new_id(payment.customer_id), orjson.dumps(reasons_json(self._reasons)), terms.priority, terms.due_s)
        return self.case.case_id
