"""At which values of one number the truth of rules can change, all else being as it is: read from the rules' trees. Pure.

A comparison of two sides that grow evenly with the number changes its truth at one place, an equality at two, and a calculation that leaves 64 bits
has no value from some place on. If a rule uses the number in such comparisons only, its truth is the same between two such places. Elsewhere (`%`, a
division of it, its product with itself, …) nothing is promised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from paynow.policy.ranges import INT_MAX, INT_MIN
from paynow.policy.tree import Call, Const, Items, Name, Node, children, walk

EXACT_REAL_MAX = 2**53
"""Up to here every whole number is a double."""

_TRUTHS = frozenset({"_&&_", "_||_", "!_", "_?_:_"})
_COMPARISONS = frozenset({"_<_", "_<=_", "_>_", "_>=_", "_==_", "_!=_"})


class Thresholds(NamedTuple):
    """The values from which on the truth of a rule may be another than just before, in order; `exact` says that it is so nowhere else."""

    starts: tuple[float, ...]
    exact: bool


class _Line(NamedTuple):
    """`slope * x + offset`, of whole numbers or of a whole number as a real one."""

    slope: int
    offset: float
    whole: bool


class _NotALine(Exception):
    """The number stands where nothing can be promised."""


class _NoValue(Exception):
    """The calculation has none, whatever the number is: a name is not known, a result is beyond 64 bits."""


def thresholds(trees: Iterable[Node], name: str, values: Mapping[str, Any], *, whole: bool) -> Thresholds:
    """Where the truth of one of the rules can change with the number `name`; `values` are those of the other names, as far as they are known."""
    reading = _Reading(name, values, whole=whole)
    for tree in trees:
        reading.truth(tree)
    return Thresholds(tuple(sorted(reading.starts)), reading.exact)


def compared_together(trees: Iterable[Node], one: str, other: str) -> bool:
    """Whether two names stand in one comparison, so that where the truth changes with the one depends on the other."""
    for tree in trees:
        for node in walk(tree):
            if isinstance(node, Call) and node.function not in _TRUTHS and {one, other} <= set(_names(node)):
                return True
    return False


def words_beside(trees: Iterable[Node], name: str) -> list[str]:
    """The texts that stand in a rule which reads the name."""
    found: dict[str, None] = {}
    for tree in trees:
        if name in set(_names(tree)):
            found.update(dict.fromkeys(node.value for node in walk(tree) if isinstance(node, Const) and isinstance(node.value, str)))
    return list(found)


def _names(node: Node) -> Iterator[str]:
    return (part.name for part in walk(node) if isinstance(part, Name))


class _Reading:
    """Goes through rules and gathers the places."""

    def __init__(self, name: str, values: Mapping[str, Any], *, whole: bool) -> None:
        self.name = name
        self.values = values
        self.whole = whole
        self.starts: set[float] = set()
        self.exact = True

    def truth(self, node: Node) -> None:
        if self.name not in _names(node):
            return
        if isinstance(node, Call) and node.function in _TRUTHS:
            for part in children(node):
                self.truth(part)
            return
        try:
            if isinstance(node, Call) and node.function in _COMPARISONS:
                self._compared(*node.arguments)
            elif isinstance(node, Call) and node.function == "@in" and isinstance(node.arguments[1], Items):
                for element in node.arguments[1].elements:
                    self._compared(node.arguments[0], element)
            else:
                self.exact = False
        except _NotALine:
            self.exact = False
        except _NoValue:
            pass  # an error, whatever the number is

    def _compared(self, left: Node, right: Node) -> None:
        if not self.whole:
            self._compared_real(left, right)
            return
        one, other = self._line(left), self._line(right)
        slope, offset = one.slope - other.slope, Fraction(other.offset) - Fraction(one.offset)
        if slope:
            if not (one.whole and other.whole) and abs(offset / slope) >= EXACT_REAL_MAX:
                raise _NotALine
            self._add(offset / slope)

    def _compared_real(self, left: Node, right: Node) -> None:
        """Of a real number only the bare name: calculations round."""
        if isinstance(right, Name) and right.name == self.name:
            left, right = right, left
        if not (isinstance(left, Name) and left.name == self.name) or self.name in _names(right):
            raise _NotALine
        bound = float(self._constant(right))
        self.starts |= {bound, math.nextafter(bound, math.inf)}

    def _add(self, place: Fraction) -> None:
        """Up to the place it is one thing, at it perhaps another, beyond it a third."""
        self.starts |= {math.ceil(place), math.floor(place) + 1}

    def _line(self, node: Node) -> _Line:
        if isinstance(node, Name) and node.name == self.name:
            return _Line(1, 0, True)
        if self.name not in _names(node):
            value = self._constant(node)
            return _Line(0, value, isinstance(value, int))
        if not isinstance(node, Call):
            raise _NotALine
        lines = [self._line(part) for part in node.arguments]
        if node.function == "double" and lines[0] == _Line(1, 0, True):
            return _Line(1, 0, False)
        if not all(line.whole for line in lines):
            raise _NotALine
        match node.function, lines:
            case "_+_", [one, other]:
                line = _Line(one.slope + other.slope, one.offset + other.offset, True)
            case "_-_", [one, other]:
                line = _Line(one.slope - other.slope, one.offset - other.offset, True)
            case "-_", [one]:
                line = _Line(-one.slope, -one.offset, True)
            case "_*_", [one, other] if not (one.slope and other.slope):
                line = _Line(one.slope * int(other.offset) + other.slope * int(one.offset), one.offset * other.offset, True)
            case _:
                raise _NotALine
        if line.slope:
            for edge in (INT_MIN, INT_MAX):
                self._add(Fraction(edge - int(line.offset), line.slope))
        return line

    def _constant(self, node: Node) -> int | float:
        """What a part without the number comes to; parts that are more than a number or a name are not followed."""
        if isinstance(node, Const):
            value: Any = node.value
        elif isinstance(node, Name):
            if node.name not in self.values:
                raise _NoValue
            value = self.values[node.name]
        elif isinstance(node, Call) and node.function in ("_+_", "_-_", "-_", "_*_"):
            value = self._calculated(node)
        elif isinstance(node, Call) and node.function == "double":
            value = float(self._constant(node.arguments[0]))
        else:
            raise _NotALine
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _NotALine
        return value

    def _calculated(self, node: Call) -> int | float:
        parts = [self._constant(part) for part in node.arguments]
        match node.function:
            case "_+_":
                value = parts[0] + parts[1]
            case "_-_":
                value = parts[0] - parts[1]
            case "_*_":
                value = parts[0] * parts[1]
            case _:
                value = -parts[0]
        if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
            raise _NoValue
        if isinstance(value, float) and not math.isfinite(value):
            raise _NotALine
        return value
