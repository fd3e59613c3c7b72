"""An event of each type, for the documents that consumers read. A test holds them to the schemas."""

from __future__ import annotations

from typing import Any

import orjson

from paynow.events.envelope import SEQUENCE_DIGITS, SOURCE, partition_key
from paynow.events.forms import CaseResolvedData, PaymentDecidedData, PaymentFacts, PolicyBandData, ReservationEndedData

_CUSTOMER = "c_123"
_PAYMENT = "01a20cff-7d00-752e-89a7-f2a74de44ad5"
_CASE = "01a20cff-9088-7128-a24b-d23f08244ad5"
_POLICY, _POLICY_BEFORE = "4e8950f9666aca7a9b1f6c1a52d00c3e", "0f2a4c6e8b1d3f507192a3b4c5d6e7f8"
_FACTS = PaymentFacts(paymentId=_PAYMENT, customerId=_CUSTOMER, payeeId="p_789", amount="125.50", currency="USD")


def _event(sequence: int, kind: str, time: str, data: Any, *, subject: str = _PAYMENT, customer: str = _CUSTOMER) -> dict[str, Any]:
    event = {
        "specversion": "1.0",
        "id": f"01a20cff-7d00-7a4e-9c3b-2f6d8e1a{0x4AD0 + sequence:04x}",
        "source": SOURCE,
        "type": kind,
        "subject": subject,
        "time": time,
        "datacontenttype": "application/json",
        "sequence": f"{sequence:0{SEQUENCE_DIGITS}d}",
        "partitionkey": partition_key(customer),
        "data": data,
    }
    return dict(orjson.loads(orjson.dumps(event)))


def _reservation(sequence: int, end: Any, time: str) -> dict[str, Any]:
    return _event(sequence, f"paynow.reservation.{end}", time, ReservationEndedData(**_FACTS, reservation=end))


def _policy(sequence: int, kind: str, time: str, **changes: Any) -> dict[str, Any]:
    data = PolicyBandData(
        policyVersion=_POLICY,
        activatedAt="2026-11-24T09:00:00.000Z",
        windowS=3600.0,
        decisions=5210,
        reviewShare=0.3124,
        reviewBand=(0.0, 0.2),
        blockShare=0.0042,
        blockBand=(0.0, 0.05),
        rollback=None,
        rolledBackTo=None,
    )
    data.update(changes)
    return _event(sequence, kind, time, data, subject=data["policyVersion"], customer="paynow.policy")


_DECIDED = PaymentDecidedData(
    **_FACTS,
    decision="review",
    reasons=["new_payee_large_amount"],
    degraded=False,
    policyVersion=_POLICY,
    caseId=_CASE,
    decidedAt="2026-11-24T10:00:00.000Z",
)
_RESOLVED = CaseResolvedData(**_FACTS, caseId=_CASE, resolution="approved", resolvedBy="k3m9x0q7t2ab", reservation="held")

EXAMPLES = {
    event["type"]: event
    for event in (
        _event(42, "paynow.payment.decided", "2026-11-24T10:00:00.000Z", _DECIDED),
        _reservation(44, "captured", "2026-11-24T11:30:00.000Z"),
        _reservation(45, "released", "2026-11-24T11:30:00.000Z"),
        _reservation(46, "expired", "2026-12-01T11:00:00.000Z"),
        _event(43, "paynow.case.resolved", "2026-11-24T11:00:00.000Z", _RESOLVED),
        _policy(7, "paynow.policy.band_left", "2026-11-24T10:05:00.000Z", rollback="done", rolledBackTo=_POLICY_BEFORE),
        _policy(8, "paynow.policy.band_returned", "2026-11-24T11:10:00.000Z", policyVersion=_POLICY_BEFORE, reviewShare=0.0511),
    )
}
"""By type."""
