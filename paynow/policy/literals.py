"""What is settled in a rule's text before the expression language sees it: amounts of money, `minor("250.00", "USD")`. Knows no tool.

The language has no units. An amount is replaced by its integer of minor units, filled up with blanks to the same length,
so that every position that the compiler reports is a position of the text as it was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from paynow import money

_QUOTED = r"\"[^\"\\\n]*\"|'[^'\\\n]*'"
_TOKEN = re.compile(
    rf"""
    (?:[rR][bB]?|[bB][rR])(?:\"\"\".*?\"\"\"|'''.*?'''|\"[^\"\n]*\"|'[^'\n]*')      # a raw text: a backslash is a backslash
    | \"\"\"(?:\\.|[^\\])*?\"\"\" | '''(?:\\.|[^\\])*?''' | \"(?:\\.|[^\"\\\n])*\" | '(?:\\.|[^'\\\n])*'
    | //[^\n]*
    | (?<![\w.])(?P<has>has)\s*\(
    | (?<![\w.])minor[ \t]*\([ \t]*(?P<amount>{_QUOTED})[ \t]*,[ \t]*(?P<currency>{_QUOTED})[ \t]*\)
    """,
    re.VERBOSE | re.DOTALL,
)
_AMOUNT = re.compile(r"\d{1,19}(?:\.\d{1,6})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Slip:
    """Something wrong at a position of the text."""

    at: int
    message: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The text for the compiler, each amount's currency with the position of the amount, and what was wrong."""

    text: str
    currencies: tuple[tuple[str, int], ...]
    slips: tuple[Slip, ...]


def settle_literals(text: str) -> Settled:
    """Replaces every amount of money outside of texts and comments. `has(…)`, which the compiler would mistake, is refused here."""
    currencies: list[tuple[str, int]] = []
    slips: list[Slip] = []

    def replaced(token: re.Match[str]) -> str:
        if token["has"]:
            slips.append(Slip(token.start(), "has() is not needed: a tool that answered has said every field that it declares"))
        if not token["amount"]:
            return token[0]
        amount, currency = token["amount"][1:-1], token["currency"][1:-1]
        try:
            minor = minor_of(amount, currency)
        except ValueError as error:
            slips.append(Slip(token.start(), str(error)))
            minor = 0
        else:
            currencies.append((currency, token.start()))
        return str(minor).ljust(len(token[0]))

    settled = _TOKEN.sub(replaced, text)
    return Settled(settled, tuple(currencies), tuple(slips))


def minor_of(amount: object, currency: object) -> int:
    """An amount as people write it, in minor units. Raises `ValueError` that says what is wrong with it."""
    if not isinstance(currency, str) or currency not in money.exponents():
        raise ValueError(f'"{currency}" is no currency code of ISO 4217 that has minor units')
    if not isinstance(amount, str) or not _AMOUNT.fullmatch(amount):
        raise ValueError('the amount must be digits in quotes, with a point before the decimals: "250.00"')
    try:
        minor = money.to_minor(Decimal(amount), currency)
    except ValueError:
        raise ValueError(f'"{amount}" has more decimals than {currency}, which has {money.exponents()[currency]}') from None
    if minor > money.AMOUNT_MINOR_MAX:
        raise ValueError(f"no payment is larger than {money.to_text(money.AMOUNT_MINOR_MAX, currency)} {currency}")
    return minor
