"""What a logged value or a metric label may look like. Knows shapes only, not which field has which.

A check is handed any object and gives what may be written, or `WITHHELD`. It reads exact built-in types only, so that it never runs
code of the object it looks at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from uuid import UUID

Check = Callable[[Any], object]

WITHHELD = object()
"""What a check gives for a value that may not be written."""

NUMBER_MAX = 10**12
"""Numbers with 13 digits and more are withheld: card numbers begin there."""

TEXT_LENGTH_MAX = 128
ITEMS_MAX = 32
_TEXTS_KEPT = 256

_CARD = re.compile(r"(?<![0-9A-Za-z])[0-9](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z])")
_LONG_NUMBER = re.compile(r"[0-9]{7}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def holds_card(text: str) -> bool:
    """Whether a card number stands in the text: 13 to 19 digits of their own, spaced or not, with a valid check digit (ISO/IEC 7812-1, Luhn)."""
    return any(_luhn(re.sub("[ -]", "", found)) for found in _CARD.findall(text))


def _luhn(digits: str) -> bool:
    doubled = [sum(divmod(int(digit) * 2, 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0


def plain_text(value: Any) -> str | None:
    """The value as an exact `str` if it is one or derives from it (an enum's member does), else None."""
    if type(value) is str:
        return value
    return str.__str__(value) if issubclass(type(value), str) else None


def number(value: Any) -> object:
    """A finite number below 10**12, to three decimals. `True` is none."""
    kind = type(value)
    if kind is int:
        return value if -NUMBER_MAX < value < NUMBER_MAX else WITHHELD
    if kind is float:
        return round(value, 3) if -NUMBER_MAX < value < NUMBER_MAX else WITHHELD
    if issubclass(kind, int) and kind is not bool:
        return number(int.__index__(value))
    return WITHHELD


def whole(value: Any) -> object:
    """A whole number below 10**12."""
    return WITHHELD if type(value) is float else number(value)


def flag(value: Any) -> object:
    """True or false."""
    return value if type(value) is bool else WITHHELD


def uuid(value: Any) -> object:
    """A UUID, or text that is shaped like one."""
    if type(value) is UUID:
        return str(value)
    text = plain_text(value)
    return text if text is not None and _UUID.fullmatch(text) else WITHHELD


def like(pattern: str, *, numbers: bool = False) -> Check:
    """Text that the whole pattern matches. Unless `numbers` says so, it holds no seven digits in a row, which rules out
    telephone, account and card numbers; a card number is withheld in any case."""
    match = re.compile(pattern).fullmatch

    @lru_cache(_TEXTS_KEPT)
    def fits(text: str) -> bool:
        return bool(match(text)) and not (holds_card(text) if numbers else _LONG_NUMBER.search(text))

    def check(value: Any) -> object:
        text = value if type(value) is str else plain_text(value)
        return text if text is not None and len(text) <= TEXT_LENGTH_MAX and fits(text) else WITHHELD

    return check


def one_of(*choices: str) -> Check:
    """One of a closed set of words."""
    known = frozenset(choices)

    def check(value: Any) -> object:
        text = plain_text(value)
        return text if text in known else WITHHELD

    return check


def either(*checks: Check) -> Check:
    """What the first of several checks lets through."""

    def check(value: Any) -> object:
        for one in checks:
            if (safe := one(value)) is not WITHHELD:
                return safe
        return WITHHELD

    return check


def several(item: Check) -> Check:
    """A list or tuple of at most 32 items, each of which passes."""

    def check(value: Any) -> object:
        if type(value) not in (list, tuple) or len(value) > ITEMS_MAX:
            return WITHHELD
        safe = [item(one) for one in value]
        return WITHHELD if WITHHELD in safe else safe

    return check


word = like(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")
"""A name of ours: a tool, a sink, a rule, a scope. The shapes of e-mail addresses and of IBANs are none."""

code = like(r"[A-Za-z_][A-Za-z0-9_.]{0,80}")
"""An error code, or the name of an exception's class."""

route = like(r"/|(?:/(?:[a-z][a-z.-]{0,40}|\{[A-Za-z]{1,40}\})){1,8}|unmatched")
"""A route's template as the router knows it, never a path: its parts are lower-case words or names in braces."""

method = one_of("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other")

decision = one_of("allow", "review", "block")

tool_status = one_of("ok", "error", "timeout", "invalid", "skipped")
