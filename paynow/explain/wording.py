"""Claims and values in the words that people read. Amounts are in major units of the payment's currency. Pure."""

from __future__ import annotations

import json
import math
from typing import Any

from paynow.explain.counterfactual import ANOTHER, Alteration, Counterfactual
from paynow.money import exponents, to_text
from paynow.policy.model import PAYMENT

VERDICTS = {"allow": "allowed", "review": "reviewed", "block": "blocked"}


def claim_text(claim: Counterfactual, currency: str) -> str:
    """`allowed if amount ≤ 250.00 USD`."""
    currency = next((one.low for one in claim.alterations if one.name == f"{PAYMENT}.currency"), currency)
    return f"{VERDICTS[claim.decision]} if {' and '.join(_altered(one, currency) for one in claim.alterations)}"


def value_text(name: str, value: Any, currency: str) -> str:
    """A value as it is spoken of: an amount as money, else as JSON has it."""
    if isinstance(value, int) and not isinstance(value, bool) and "minor" in name.partition(".")[2].split("_") and currency in exponents():
        return f"{to_text(value, currency)} {currency}"
    return json.dumps(value, ensure_ascii=False)


def _altered(one: Alteration, currency: str) -> str:
    name = "amount" if one.name == f"{PAYMENT}.amount_minor" else one.name
    if isinstance(one.low, bool):
        return f"{name} were {str(one.low).lower()}"
    if one.low == one.high:
        return f"{name} were another" if one.low == ANOTHER else f"{name} were {value_text(one.name, one.low, currency)}"
    if one.least:
        return f"{name} {_upper(one, currency)}"
    if one.most:
        return f"{name} {_lower(one, currency)}"
    return f"{name} {_lower(one, currency)} and {_upper(one, currency)}"


def _upper(one: Alteration, currency: str) -> str:
    """`≤ 5.0`; a real number that lies just below a rounder one is spoken of as less than that."""
    rounder = _rounder(one.high, math.inf)
    return f"< {rounder}" if rounder is not None else f"≤ {value_text(one.name, one.high, currency)}"


def _lower(one: Alteration, currency: str) -> str:
    rounder = _rounder(one.low, -math.inf)
    return f"> {rounder}" if rounder is not None else f"≥ {value_text(one.name, one.low, currency)}"


def _rounder(value: Any, towards: float) -> float | None:
    if not isinstance(value, float):
        return None
    near = math.nextafter(value, towards)
    return near if len(repr(near)) < len(repr(value)) else None
