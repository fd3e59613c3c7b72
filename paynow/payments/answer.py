"""The finished answer of a decision and the data of its event: pure functions from what was decided to bytes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from paynow.agent import Trace
from paynow.clock import rfc3339
from paynow.events.forms import PaymentDecidedData, PaymentFacts
from paynow.money import to_text
from paynow.plugin_api import Payment
from paynow.policy import Reason
from paynow.store.records import Case, Finished

INSUFFICIENT_FUNDS = Reason("insufficient_funds", "The available balance does not cover the amount")


class Decision(NamedTuple):
    """All that an answer says, before it is bytes."""

    payment: Payment
    request_id: str
    decision: str
    reasons: tuple[Reason, ...]
    degraded: bool
    policy_version: str
    case: Case | None
    case_pending: bool
    decided_at: datetime
    reserved_until: datetime
    trace: Trace
    """The steps up to the settle, which is added to a copy here."""
    overruled: bool = False
    """Whether the settle has found the money gone; see `overruled`."""


def finish(decision: Decision) -> Finished:
    """The answer and the event's data."""
    trace = decision.trace.copy()
    if decision.overruled:
        trace.settle("overruled", decision.decision, reason=INSUFFICIENT_FUNDS.code)
    else:
        trace.settle("settled", decision.decision)
    return _finished(decision, trace)


def overruled(decision: Decision) -> Decision:
    """What holds instead of an allow for which the settle finds the money gone."""
    return decision._replace(decision="block", reasons=(INSUFFICIENT_FUNDS,), overruled=True)


def reservation_held(payment: Payment, until: datetime) -> dict[str, Any]:
    """The reservation of an allowed payment, as it is answered."""
    return _reservation(payment_json(payment), until)


def _reservation(facts: PaymentFacts, until: datetime) -> dict[str, Any]:
    return {"status": "held", "amount": facts["amount"], "currency": facts["currency"], "expiresAt": rfc3339(until)}


def reasons_json(reasons: Sequence[Reason]) -> list[dict[str, str]]:
    """Reasons as they stand in answers and cases; what the one who pays may read stands beside the rest only if the policy says it."""
    return [
        {"code": reason.code, "message": reason.message}
        if reason.customer_message is None
        else {"code": reason.code, "message": reason.message, "customerMessage": reason.customer_message}
        for reason in reasons
    ]


def _finished(decision: Decision, trace: Trace) -> Finished:
    facts = payment_json(decision.payment)
    case_id = str(decision.case.case_id) if decision.case else None
    decided_at = rfc3339(decision.decided_at)
    answer = {
        "paymentId": facts["paymentId"],
        "requestId": decision.request_id,
        "decision": decision.decision,
        "reasons": reasons_json(decision.reasons),
        "degraded": decision.degraded,
        "policyVersion": decision.policy_version,
        "caseId": case_id,
        "reservation": _reservation(facts, decision.reserved_until) if decision.decision == "allow" else None,
        "agentTrace": trace.steps,
        "decidedAt": decided_at,
    }
    data = PaymentDecidedData(
        **facts,
        decision=decision.decision,
        reasons=[reason.code for reason in decision.reasons],
        degraded=decision.degraded,
        policyVersion=decision.policy_version,
        caseId=case_id,
        decidedAt=decided_at,
    )
    return Finished(orjson.dumps(answer), orjson.dumps(data))


def payment_json(payment: Payment) -> PaymentFacts:
    """The payment's own facts, as events and pages say them."""
    return PaymentFacts(
        paymentId=str(payment.payment_id),
        customerId=payment.customer_id,
        payeeId=payment.payee_id,
        amount=to_text(payment.amount_minor, payment.currency),
        currency=payment.currency,
    )
