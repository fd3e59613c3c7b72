"""Money: integer minor units inside, decimal text outside, never a float.

The number of decimals of a currency is ISO 4217's; currencies without minor units of account (gold, test codes) are not money here.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache

from iso4217 import Currency

AMOUNT_MINOR_MAX = 10**15
"""The largest amount of one payment or opening balance, in minor units: a hundred such fit into a bigint with room to spare."""


@cache
def exponents() -> dict[str, int]:
    """Each currency's number of decimals by its ISO 4217 code: JPY 0, USD 2, BHD 3."""
    return {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}


def to_minor(amount: Decimal, currency: str) -> int:
    """`amount` in minor units of `currency`, exactly.

    Raises `ValueError` if it is not finite, far out of range or has more decimals than the currency; `KeyError` for a code that is no currency.
    """
    exponent = exponents()[currency]
    if not amount.is_finite() or abs(amount.adjusted()) > 30:
        raise ValueError("not an amount of money")
    sign, digits, power = amount.as_tuple()
    minor = int("".join(map(str, digits)))
    shift = int(power) + exponent
    if shift < 0:
        minor, rest = divmod(minor, 10**-shift)
        if rest:
            raise ValueError(f"{currency} has {exponent} decimals")
    else:
        minor *= 10**shift
    return -minor if sign else minor


def to_text(amount_minor: int, currency: str) -> str:
    """Minor units as decimal text with all the decimals of the currency: 12550 USD is `125.50`."""
    exponent = exponents()[currency]
    if exponent == 0:
        return str(amount_minor)
    sign = "-" if amount_minor < 0 else ""
    whole, part = divmod(abs(amount_minor), 10**exponent)
    return f"{sign}{whole}.{part:0{exponent}d}"
