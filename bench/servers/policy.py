"""The policy of the bench: the one that PayNow ships, with every rule evaluated, and only the limits raised that so many payments would reach."""

from __future__ import annotations

RAISED = {
    "getRiskSignals.attempts_1m > 10": "getRiskSignals.attempts_1m > 1000000",
    "getRiskSignals.attempts_1h > 60": "getRiskSignals.attempts_1h > 1000000",
    "payment.amount_minor > 2000000": "payment.amount_minor > 1000000000000000",
}


def raised(shipped: str) -> str:
    """The text of the policy. Raises `ValueError` if the shipped one has changed and a limit is not found in it once."""
    for limit, higher in RAISED.items():
        if shipped.count(limit) != 1:
            raise ValueError(f"the shipped policy holds {limit!r} {shipped.count(limit)} times: change bench/servers/policy.py with it")
        shipped = shipped.replace(limit, higher)
    return shipped
