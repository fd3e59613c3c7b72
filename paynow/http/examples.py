"""Examples for the OpenAPI document and the error pages: one request, its answers, and one problem a refusal. A test holds them to the schemas."""

from __future__ import annotations

from typing import Any

import orjson

from paynow.errors import FieldFault, InvalidRequest, Refusal
from paynow.http.problems import problem

_PAYMENT_ID = "01a20cff-7d00-752e-89a7-f2a74de44ad5"
_CASE_ID = "01a20cff-9088-7128-a24b-d23f08244ad5"
_REQUEST_ID = "5f0c1f6d9a3b4d6c8e7f102938475665"
_POLICY = "4e8950f9666aca7a9b1f6c1a52d00c3e"
_FACTS = {"customerId": "c_123", "payeeId": "p_789", "amount": "125.50", "currency": "USD"}
_HELD = {"status": "held", "amount": "125.50", "currency": "USD", "expiresAt": "2026-12-01T10:00:00.000Z"}
_ENDED = {"paymentId": _PAYMENT_ID, "amount": "125.50", "currency": "USD", "endedAt": "2026-11-24T11:30:00.000Z"}
_LARGE = {"code": "new_payee_large_amount", "message": "A large amount to a payee that the customer has not paid before"}

_DECISION = {
    "paymentId": _PAYMENT_ID,
    "requestId": _REQUEST_ID,
    "decision": "allow",
    "reasons": [],
    "degraded": False,
    "policyVersion": _POLICY,
    "caseId": None,
    "reservation": _HELD,
    "agentTrace": [
        {"step": "plan", "tools": ["getBalance", "getRiskSignals"], "policyVersion": _POLICY},
        {
            "step": "tool",
            "tool": "getBalance",
            "attempt": 1,
            "status": "ok",
            "durationMs": 1.21,
            "output": {"available_minor": 1000000, "reserved_minor": 0},
        },
        {
            "step": "tool",
            "tool": "getRiskSignals",
            "attempt": 1,
            "status": "ok",
            "durationMs": 1.84,
            "output": {"attempts_1m": 1, "attempted_minor_24h": 12550, "payee_known": False, "payee_list": "none", "customer_list": "none"},
        },
        {"step": "decide", "decision": "allow", "fired": [], "unknown": []},
        {"step": "settle", "status": "settled", "decision": "allow"},
    ],
    "decidedAt": "2026-11-24T10:00:00.000Z",
}

_SUMMARY = {
    "paymentId": _PAYMENT_ID,
    **_FACTS,
    "decision": "allow",
    "reasons": [],
    "degraded": False,
    "caseId": None,
    "reservation": _HELD,
    "decidedAt": "2026-11-24T10:00:00.000Z",
}

_EXPLANATION = {
    "paymentId": _PAYMENT_ID,
    **_FACTS,
    "amount": "2500.00",
    "decision": "review",
    "reasons": [_LARGE],
    "degraded": False,
    "policyVersion": _POLICY,
    "decidedAt": "2026-11-24T10:00:00.000Z",
    "timeline": [{"tool": "getRiskSignals", "attempt": 1, "status": "ok", "startMs": 0.0, "durationMs": 1.84}],
    "rules": [
        {
            "id": "new_payee_large_amount",
            "mode": "enforce",
            "then": "review",
            "when": "!getRiskSignals.payee_known && payment.amount_minor >= 100000",
            "message": _LARGE["message"],
            "value": "true",
            "values": {"getRiskSignals.payee_known": False, "payment.amount_minor": 250000},
        }
    ],
    "changes": [
        {
            "decision": "allow",
            "text": "allowed if amount ≤ 999.99 USD",
            "if": [{"name": "payment.amount_minor", "recorded": 250000, "atMost": 99999}],
        },
        {
            "decision": "allow",
            "text": "allowed if getRiskSignals.payee_known were true",
            "if": [{"name": "getRiskSignals.payee_known", "recorded": False, "value": True}],
        },
    ],
    "searched": {"evaluations": 39, "complete": True, "notes": []},
    "verified": {"same": True, "differences": []},
}

_CASE = {
    "caseId": _CASE_ID,
    "paymentId": "01a20cff-9089-7181-a54c-5d9dc9f84ad5",
    "customerId": "c_123",
    "status": "open",
    "amount": "2500.00",
    "currency": "USD",
    "reasons": [_LARGE],
    "priority": 1,
    "openedAt": "2026-11-24T10:00:01.000Z",
    "dueAt": "2026-11-25T10:00:01.000Z",
    "overdue": False,
    "holder": None,
    "claimedAt": None,
    "label": None,
    "resolvedBy": None,
    "resolvedAt": None,
    "reservedUntil": None,
}
_CLAIMED = {**_CASE, "status": "claimed", "holder": "4xe4qtejtuaf", "claimedAt": "2026-11-24T10:05:00.000Z"}
_RESOLVED = {**_CASE, "resolvedBy": "4xe4qtejtuaf", "resolvedAt": "2026-11-24T10:20:00.000Z"}
_APPROVED = {**_RESOLVED, "status": "approved", "reservedUntil": "2026-12-01T10:20:00.000Z"}
_HISTORY = [
    {"act": "claimed", "keyId": "4xe4qtejtuaf", "at": "2026-11-24T10:05:00.000Z"},
    {"act": "noted", "keyId": "4xe4qtejtuaf", "at": "2026-11-24T10:15:00.000Z", "note": "Called the customer: the invoice is genuine"},
    {"act": "approved", "keyId": "4xe4qtejtuaf", "at": "2026-11-24T10:20:00.000Z"},
    {"act": "labelled", "keyId": "4xe4qtejtuaf", "at": "2026-11-24T10:20:30.000Z", "label": "false_positive"},
]

_ENTRY = {"kind": "customer", "id": "c_666", "list": "block"}
_LISTING = {
    **_ENTRY,
    "state": "valid",
    "reason": "fraud ring",
    "author": "4xe4qtejtuaf",
    "addedAt": "2026-11-24T10:00:00.000Z",
    "expiresAt": "2027-01-31T12:00:00.000Z",
}

_PROPOSAL = {
    "version": _POLICY,
    "status": "open",
    "proposedBy": "4xe4qtejtuaf",
    "proposedAt": "2026-11-24T10:00:00.000Z",
    "judgedBy": None,
    "judgedAt": None,
}
_JUDGED = {**_PROPOSAL, "judgedBy": "k3v9x0a1b2c4", "judgedAt": "2026-11-24T10:20:00.000Z"}
_POLICY_TEXT = '[[rule]]\nid = "large"\nwhen = "payment.amount_minor >= 500000"\nthen = "review"\nmessage = "A large amount"\n'

_EVENT = {
    "specversion": "1.0",
    "id": "01a20cff-7d01-7651-8317-a6a3a4504ad5",
    "source": "/paynow",
    "type": "paynow.payment.decided",
    "subject": _PAYMENT_ID,
    "time": "2026-11-24T10:00:00.000Z",
    "datacontenttype": "application/json",
    "sequence": "0000000000000000001",
    "partitionkey": "4ad5f175f12fa7da7c135d03d4760dfc",
    "data": {
        "paymentId": _PAYMENT_ID,
        **_FACTS,
        "decision": "allow",
        "reasons": [],
        "degraded": False,
        "policyVersion": _POLICY,
        "caseId": None,
        "decidedAt": "2026-11-24T10:00:00.000Z",
    },
}

_METRICS = {
    "totalRequests": 1284,
    "decisions": {"allow": 1201, "review": 52, "block": 31},
    "p95Latency": 8.4,
    "routes": {"POST /api/payments/decide": {"count": 1284, "p50Latency": 3.1, "p95Latency": 8.4, "p99Latency": 14.2}},
    "tools": {"getBalance": {"calls": 1286, "failures": 2, "p95Latency": 2.2}},
}

REQUESTS: dict[str, dict[str, Any]] = {
    "decide": {**_FACTS, "idempotencyKey": "6f1c0d52"},
    "note_case": {"note": "Called the customer: the invoice is genuine"},
    "label_case": {"label": "false_positive"},
    "put_listing": {"reason": "fraud ring", "expiresAt": "2027-01-31T12:00:00Z"},
    "propose_policy": {"policy": _POLICY_TEXT},
}
"""The body that each route takes, by the route's name. The demo's accounts make it work as it stands."""

ANSWERS: dict[str, dict[str, Any]] = {
    "decide": _DECISION,
    "payment": {**_DECISION, **_FACTS},
    "explanation": _EXPLANATION,
    "payments_page": {"items": [_SUMMARY], "nextCursor": None},
    "capture": {**_ENDED, "status": "captured"},
    "release": {**_ENDED, "status": "released"},
    "account": {"customerId": "c_123", "balances": [{"currency": "USD", "available": "9874.50", "reserved": "125.50"}]},
    "case": {**_APPROVED, "label": "false_positive", "history": _HISTORY},
    "cases_page": {"items": [_CASE], "nextCursor": None},
    "claim_case": _CLAIMED,
    "unclaim_case": _CASE,
    "approve_case": _APPROVED,
    "decline_case": {**_RESOLVED, "status": "declined"},
    "note_case": _CLAIMED,
    "label_case": {**_APPROVED, "label": "false_positive"},
    "lists_page": {"items": [_LISTING], "nextCursor": None},
    "put_listing": _LISTING,
    "remove_listing": {**_ENTRY, "removed": True},
    "proposals_page": {"items": [_PROPOSAL], "nextCursor": None},
    "propose_policy": _PROPOSAL,
    "proposal": {**_PROPOSAL, "policy": _POLICY_TEXT},
    "approve_proposal": {**_JUDGED, "status": "approved"},
    "refuse_proposal": {**_JUDGED, "status": "refused"},
    "recent_events": {"items": [_EVENT], "nextCursor": None},
    "metrics_summary": _METRICS,
    "healthz": {"status": "ok"},
    "readyz": {"status": "ok", "rateLimit": "ok"},
}
"""What each route that has a form answers, by the route's name."""


def problem_of(refusal: type[Refusal]) -> dict[str, Any]:
    """The problem that a caller is told with this refusal, made by the code that answers it."""
    fault = FieldFault("amount", "decimals", "must have at most 2 decimals in USD")
    told = InvalidRequest("One or more fields are wrong", errors=[fault]) if refusal is InvalidRequest else refusal()
    document: dict[str, Any] = orjson.loads(problem(told, _REQUEST_ID).body)  # type: ignore[arg-type]
    return document
