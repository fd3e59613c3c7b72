"""What a value may be: a span of numbers, a set of words, true or false. Knows arithmetic on spans, and no rule, tool or payment.

Spans are closed. The numbers of CEL are discrete (64-bit integers, doubles), so `x > 5` is `x >= the next number after 5`, exactly.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TypeAlias

from paynow.plugin_api import Field

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
REAL_MAX = sys.float_info.max


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers from `low` to `high`, both included; `whole` ones are 64-bit integers, the others finite doubles."""

    low: float
    high: float
    whole: bool

    @property
    def empty(self) -> bool:
        return self.low > self.high

    def above(self, bound: float) -> Span:
        """Only what is greater than `bound`."""
        return Span(max(self.low, bound + 1 if self.whole else math.nextafter(bound, math.inf)), self.high, self.whole)

    def below(self, bound: float) -> Span:
        """Only what is less than `bound`."""
        return Span(self.low, min(self.high, bound - 1 if self.whole else math.nextafter(bound, -math.inf)), self.whole)

    def meet(self, other: Span) -> Span:
        return Span(max(self.low, other.low), min(self.high, other.high), self.whole)

    def without(self, point: float) -> Span:
        """Without one number, if it lies at an end; a hole in the middle is not remembered."""
        if self.low == point:
            return self.above(point)
        return self.below(point) if self.high == point else self


@dataclass(frozen=True, slots=True)
class Words:
    """Texts: those of `among` (None: any text at all) except those of `never`."""

    among: frozenset[str] | None
    never: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        return self.among is not None and not self.among

    def only(self, words: frozenset[str]) -> Words:
        return Words((words if self.among is None else self.among & words) - self.never)

    def without(self, words: frozenset[str]) -> Words:
        return Words(None, self.never | words) if self.among is None else Words(self.among - words)

    def meet(self, other: Words) -> Words:
        if other.among is None:
            return self.without(other.never)
        return self.only(other.among)


@dataclass(frozen=True, slots=True)
class Truth:
    """True, false, or either."""

    may: frozenset[bool]

    @property
    def empty(self) -> bool:
        return not self.may

    def meet(self, other: Truth) -> Truth:
        return Truth(self.may & other.may)


Range: TypeAlias = Span | Words | Truth


def declared(field: Field) -> Range:
    """All that a field may say."""
    if field.kind is bool:
        return Truth(frozenset({True, False}))
    if field.kind is str:
        return Words(frozenset(field.choices) if field.choices else None)
    low, high = field.minimum, field.maximum
    if field.kind is int:
        return Span(INT_MIN if low is None else math.ceil(low), INT_MAX if high is None else math.floor(high), True)
    return Span(-REAL_MAX if low is None else float(low), REAL_MAX if high is None else float(high), False)


def exactly(value: object) -> Range | None:
    """The range of one constant; None for kinds of constants that are not followed."""
    if isinstance(value, bool):
        return Truth(frozenset({value}))
    if isinstance(value, str):
        return Words(frozenset({value}))
    if isinstance(value, int):
        return Span(value, value, True)
    return Span(value, value, False) if isinstance(value, float) and math.isfinite(value) else None


def arithmetic(operator: str, left: Span, right: Span) -> Span | None:
    """The span of `left operator right`; None if it cannot be told. It is empty if the calculation always fails.

    Rounding and cutting off are monotone, so the ends of the result come from the ends of the operands. An integer result
    outside of 64 bits is an error in CEL and no value; a double may become infinite, which is not followed.
    """
    if operator == "_+_":
        ends = [left.low + right.low, left.high + right.high]
    elif operator == "_-_":
        ends = [left.low - right.high, left.high - right.low]
    elif operator == "_*_":
        ends = [one * other for one in (left.low, left.high) for other in (right.low, right.high)]
    elif operator == "_/_" and right.low > 0:
        divide = _whole_quotient if left.whole else lambda one, other: one / other
        ends = [divide(one, other) for one in (left.low, left.high) for other in (right.low, right.high)]
    else:
        return None
    if left.whole:
        return Span(min(ends), max(ends), True).meet(Span(INT_MIN, INT_MAX, True))
    return Span(min(ends), max(ends), False) if all(map(math.isfinite, ends)) else None


def _whole_quotient(dividend: float, divisor: float) -> int:
    """Integer division as CEL does it: towards zero."""
    quotient = abs(int(dividend)) // int(divisor)
    return -quotient if dividend < 0 else quotient
