"""Cases between the WRITE tool that asks for them and the settle that opens them with the decision."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import orjson

from paynow.ids import new_id
from paynow.payments.answer import reasons_json
from paynow.plugin_api import Payment, Verdict
from paynow.policy import Reason
from paynow.store.records import Case


class StagedCases:
    """The `Cases` of the plugin API for one payment: at most one case, whoever asks and however often."""

    def __init__(self, reasons: Sequence[Reason]) -> None:
        self._reasons = reasons
        self.case: Case | None = None

    def stage(self, payment: Payment, verdict: Verdict) -> UUID:
        """The id of the payment's case, to be opened with the decision."""
        if self.case is None:
            self.case = Case(new_id(payment.customer_id), orjson.dumps(reasons_json(self._reasons)))
        return self.case.case_id
