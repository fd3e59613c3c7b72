"""What would have changed a verdict: found by evaluating the policy with one thing said otherwise, or two; each claim is checked by running it. Pure.

All else stays as it was recorded, also what follows from the thing in life (a smaller amount is a smaller share of the day's): a claim is about
the policy.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from typing import Any, NamedTuple

from paynow import money
from paynow.explain.thresholds import Thresholds, compared_together, thresholds, words_beside
from paynow.plugin_api import Field, Payment
from paynow.policy import STRICTNESS, Policy
from paynow.policy.model import PAYMENT
from paynow.policy.ranges import INT_MAX, INT_MIN

EVALUATIONS_MAX = 4_000
"""Of the policy for one payment: half a second with many rules."""
CELLS_MAX = 400
"""Stretches of one number that are looked at, those nearest to what was recorded."""
WORDS_MAX = 20
"""Texts of one name that are tried."""
NEAR_MAX = 6
"""Values of each name that are tried together with those of another."""
FOUND_MAX = 12
ANOTHER = "another"


@dataclass(frozen=True, slots=True)
class Alteration:
    """One thing said otherwise: any value from `low` to `high`, both included. They are equal for what is no number.

    `least` and `most` say that there is nothing below `low` and nothing above `high`.
    """

    name: str
    recorded: Any
    low: Any
    high: Any
    least: bool = False
    most: bool = False


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """With all of these alterations the verdict would have been `decision`."""

    decision: str
    alterations: tuple[Alteration, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """What was found, the milder verdicts first; after how many evaluations, and whether that was all there was to try; and what limits it."""

    found: tuple[Counterfactual, ...]
    evaluations: int
    complete: bool
    notes: tuple[str, ...] = ()


class _Spent(Exception):
    """The bound of evaluations is reached."""


class _Stretch(NamedTuple):
    """Values next to each other with one verdict; `distance` counts the stretches between it and what was recorded."""

    low: Any
    high: Any
    verdict: str
    distance: int


def search(
    policy: Policy,
    payment: Payment,
    outputs: Mapping[str, Mapping[str, Any]],
    floors: Mapping[str, str],
    fields: Mapping[str, Mapping[str, Field]],
) -> Search:
    """What would have changed the policy's verdict. `fields` are what tools declare, for the bounds within which their values lie."""
    return _Search(policy, payment, outputs, floors, fields)()


class _Search:
    def __init__(
        self,
        policy: Policy,
        payment: Payment,
        outputs: Mapping[str, Mapping[str, Any]],
        floors: Mapping[str, str],
        fields: Mapping[str, Mapping[str, Field]],
    ) -> None:
        self._policy, self._payment, self._outputs, self._floors = policy, payment, outputs, floors
        self._trees = [rule.expression.tree() for rule in policy.rules]
        self._evaluations = 0
        self._bounded = True
        self._known: dict[tuple[tuple[str, Any], ...], str] = {}
        self._recorded = {name: value for name, value in self._values() if type(value) in (bool, int, float, str)}
        self._fields = {name: _field(name, value, fields) for name, value in self._recorded.items()}
        self.decision = self._verdict({})

    def __call__(self) -> Search:
        found: list[Counterfactual] = []
        complete = True
        targets = self._targets()
        try:
            for name in self._recorded:
                found += self._of_one(name, targets)
            missing = [target for target in targets if not any(one.decision == target for one in found)]
            if pairs := [target for target in missing if self._milder(target) or not found]:
                for one in self._of_two(pairs):
                    found.append(one)
        except _Spent:
            complete = False
        self._bounded = False  # the claims are few
        found = [one for one in found if self._holds(one)]
        order = {target: place for place, target in enumerate(targets)}
        found.sort(key=lambda one: (order[one.decision], len(one.alterations)))
        return Search(tuple(found[:FOUND_MAX]), self._evaluations, complete, tuple(self._notes()))

    def _values(self) -> Iterator[tuple[str, Any]]:
        """What rules read and what was said of it, the amount first and who pays whom last; not what a tool would have said that gave no answer."""

        def place(name: str) -> tuple[bool, bool, str]:
            return name != f"{PAYMENT}.amount_minor", name.startswith(f"{PAYMENT}."), name

        for name in sorted({name for rule in self._policy.rules for name in rule.names}, key=place):
            tool, _, field = name.partition(".")
            if tool == PAYMENT:
                yield name, getattr(self._payment, field)
            elif tool not in self._floors:
                yield name, self._outputs.get(tool, {}).get(field)

    def _targets(self) -> list[str]:
        """Other verdicts that are possible at all, the milder first."""
        least = max(STRICTNESS[verdict] for verdict in (self._policy.default, *(floor for floor in self._floors.values() if floor != "ignore")))
        return [verdict for verdict, strictness in STRICTNESS.items() if verdict != self.decision and strictness >= least]

    def _milder(self, target: str) -> bool:
        return STRICTNESS[target] < STRICTNESS[self.decision]

    def _notes(self) -> Iterator[str]:
        for tool, floor in self._floors.items():
            if floor != "ignore":
                yield f"{tool} gave no answer, and nothing milder than {floor} is said without it"
        if self._policy.default != "allow":
            yield f"nothing milder than {self._policy.default} is said by this policy: it is its default"

    # ---- one thing

    def _of_one(self, name: str, targets: Sequence[str]) -> list[Counterfactual]:
        found = []
        for target in targets:
            found += [Counterfactual(target, (self._alteration(name, one),)) for one in self._nearest(name, target)]
        return found

    def _nearest(self, name: str, target: str) -> list[_Stretch]:
        """The nearest values with that verdict: of numbers one stretch on each side, of others all."""
        if self._fields[name].kind in (bool, str):
            return [one for one in self._of_words(name, {}) if one.verdict == target]
        stretches = self._stretches(name, {})
        value = self._recorded[name]
        below = [one for one in stretches if one.verdict == target and one.high < value]
        above = [one for one in stretches if one.verdict == target and one.low > value]
        return [*below[-1:], *above[:1]]

    def _of_words(self, name: str, changes: Mapping[str, Any]) -> list[_Stretch]:
        return [_Stretch(word, word, self._verdict({**changes, name: word}), 1) for word in self._words(name)]

    def _words(self, name: str) -> list[Any]:
        """Other values of a flag or a text: those that a choice has or that rules speak of, and one of which none speaks."""
        recorded, field = self._recorded[name], self._fields[name]
        if field.kind is bool:
            return [not recorded]
        spoken = words_beside(self._trees, name)
        if field.choices:
            words = [word for word in field.choices if len(field.choices) <= WORDS_MAX or word in spoken]
        else:
            words = [*spoken, ANOTHER] if ANOTHER not in spoken else spoken
        return [word for word in words if word != recorded and field.accepts(word)][:WORDS_MAX]

    def _stretches(self, name: str, changes: Mapping[str, Any]) -> list[_Stretch]:
        """All that one number can be, where it is known between which values nothing changes; else what was tried, value by value."""
        field, value = self._fields[name], self._recorded[name]
        low, high = _domain(field, value)
        values = {**self._recorded, **changes}
        places = thresholds(self._trees, name, values, whole=field.kind is int)
        if not places.exact:
            return list(self._points(name, changes, places, low, high))
        starts = [low, *(start for start in places.starts if low < start <= high)]
        here = bisect_right(starts, value) - 1
        cells = [
            _Stretch(start, _before(starts[at + 1], field.kind) if at + 1 < len(starts) else high, "", abs(at - here))
            for at, start in enumerate(starts)
            if abs(at - here) <= CELLS_MAX // 2
        ]
        return _merged([cell._replace(verdict=self._verdict({**changes, name: cell.low})) for cell in cells])

    def _points(self, name: str, changes: Mapping[str, Any], places: Thresholds, low: Any, high: Any) -> Iterator[_Stretch]:
        """Ever farther from what was recorded, and where the verdict is another, as near to it as halving comes."""
        kind, value = self._fields[name].kind, self._recorded[name]
        for sign in (-1, 1):
            probes = [value + sign * kind(2**power) for power in range(-4 if kind is float else 0, 64)] + [low if sign < 0 else high]
            probes += [near for start in places.starts for near in (start, _before(start, kind)) if (near - value) * sign > 0]
            probes = sorted({probe for probe in probes if low <= probe <= high and probe != value}, key=lambda probe: abs(probe - value))
            last, seen = value, {self._verdict(changes)}
            for probe in islice(probes, CELLS_MAX // 2):
                verdict = self._verdict({**changes, name: probe})
                if verdict not in seen:
                    seen.add(verdict)
                    nearest = self._halved(name, changes, last, probe, verdict)
                    yield _Stretch(nearest, nearest, verdict, 1)
                last = probe

    def _halved(self, name: str, changes: Mapping[str, Any], other: Any, found: Any, verdict: str) -> Any:
        """A value between `other` and `found`, or `found`, with that verdict, next to one without it."""
        for _ in range(64):
            middle = _middle(other, found)
            if middle in (other, found):
                break
            if self._verdict({**changes, name: middle}) == verdict:
                found = middle
            else:
                other = middle
        return found

    # ---- two things

    def _of_two(self, targets: Sequence[str]) -> Iterator[Counterfactual]:
        """For each verdict what two things together would bring, the nearest of each two names."""
        near = {name: self._near(name) for name in self._recorded}
        for one, other in combinations(self._recorded, 2):
            met: set[str] = set()
            for this in near[one]:
                for that in near[other]:
                    verdict = self._verdict({one: this, other: that})
                    if verdict in targets and verdict not in met:
                        met.add(verdict)
                        yield self._pair(verdict, one, this, other, that)

    def _near(self, name: str) -> list[Any]:
        """Values to be tried with those of other names: the nearest of each stretch, the nearest stretches first."""
        value = self._recorded[name]
        if self._fields[name].kind in (bool, str):
            return self._words(name)[:NEAR_MAX]
        places = thresholds(self._trees, name, self._recorded, whole=self._fields[name].kind is int)
        low, high = _domain(self._fields[name], value)
        edges = {near for start in places.starts for near in (start, _before(start, self._fields[name].kind)) if low <= near <= high} | {low, high}
        return sorted(edges - {value}, key=lambda edge: abs(edge - value))[:NEAR_MAX]

    def _pair(self, verdict: str, one: str, this: Any, other: str, that: Any) -> Counterfactual:
        first, second = self._around(one, this, {other: that}, verdict), self._around(other, that, {one: this}, verdict)
        if compared_together(self._trees, one, other) or not self._box_holds(verdict, one, first, other, second):
            second = second._replace(low=that, high=that)
        # It may be that one of them need not change at all, where single values only were tried of the other.
        if first.low <= self._recorded[one] <= first.high:
            return Counterfactual(verdict, (self._alteration(other, second._replace(low=that, high=that)),))
        if second.low <= self._recorded[other] <= second.high:
            return Counterfactual(verdict, (self._alteration(one, first._replace(low=this, high=this)),))
        return Counterfactual(verdict, (self._alteration(one, first), self._alteration(other, second)))

    def _around(self, name: str, value: Any, changes: Mapping[str, Any], verdict: str) -> _Stretch:
        """The stretch of a number around a value, the others being changed so; a point if it is no number, or nothing can be promised."""
        point = _Stretch(value, value, verdict, 1)
        if self._fields[name].kind in (bool, str):
            return point
        return next((one for one in self._stretches(name, changes) if one.low <= value <= one.high and one.verdict == verdict), point)

    def _box_holds(self, verdict: str, one: str, first: _Stretch, other: str, second: _Stretch) -> bool:
        """Whether all of the one with all of the other gives the verdict; where neither depends on the other, their corners and places tell."""
        sides = [self._representatives(one, first), self._representatives(other, second)]
        if len(sides[0]) * len(sides[1]) > CELLS_MAX:
            return False
        return all(self._verdict({one: this, other: that}) == verdict for this in sides[0] for that in sides[1])

    def _representatives(self, name: str, stretch: _Stretch) -> list[Any]:
        if stretch.low == stretch.high:
            return [stretch.low]
        places = thresholds(self._trees, name, self._recorded, whole=self._fields[name].kind is int)
        return [stretch.low, *(start for start in places.starts if stretch.low < start <= stretch.high), stretch.high]

    # ---- what both are made of

    def _alteration(self, name: str, one: _Stretch) -> Alteration:
        if self._fields[name].kind in (bool, str):
            return Alteration(name, self._recorded[name], one.low, one.high)
        low, high = _domain(self._fields[name], self._recorded[name])
        value = self._recorded[name]
        whole = one.low != one.high or low == high
        return Alteration(name, value, one.low, one.high, whole and one.low == low, whole and one.high == high)

    def _holds(self, claim: Counterfactual) -> bool:
        """Each claim is run at its ends and in its middle before it is made."""
        names = [one.name for one in claim.alterations]
        return all(self._verdict(dict(zip(names, values, strict=True))) == claim.decision for values in _run_at(claim))

    def _verdict(self, changes: Mapping[str, Any]) -> str:
        key = tuple(sorted(changes.items()))
        known = self._known.get(key)
        if known is not None:
            return known
        if self._bounded and self._evaluations >= EVALUATIONS_MAX:
            raise _Spent
        self._evaluations += 1
        payment, outputs = self._payment, self._outputs
        for name, value in changes.items():
            tool, _, field = name.partition(".")
            if tool == PAYMENT:
                payment = replace(payment, **{field: value})
            else:
                outputs = {**outputs, tool: {**outputs[tool], field: value}}
        verdict = self._known[key] = self._policy.evaluate(payment, outputs, self._floors).decision
        return verdict


def _run_at(claim: Counterfactual) -> list[tuple[Any, ...]]:
    """All lowest values together, all highest, and all in the middle."""
    return [
        tuple(one.low for one in claim.alterations),
        tuple(one.high for one in claim.alterations),
        tuple(one.low if isinstance(one.low, (bool, str)) else _middle(one.low, one.high) for one in claim.alterations),
    ]


def _middle(one: Any, other: Any) -> Any:
    return (one + other) // 2 if isinstance(one, int) else one / 2 + other / 2


def _merged(cells: Sequence[_Stretch]) -> list[_Stretch]:
    merged: list[_Stretch] = []
    for cell in cells:
        if merged and merged[-1].verdict == cell.verdict:
            merged[-1] = merged[-1]._replace(high=cell.high, distance=min(merged[-1].distance, cell.distance))
        else:
            merged.append(cell)
    return merged


def _before(value: Any, kind: type) -> Any:
    return value - 1 if kind is int else math.nextafter(value, -math.inf)


def _domain(field: Field, value: Any) -> tuple[Any, Any]:
    """What the number can be; what was recorded can be, whatever is declared now."""
    ends = (INT_MIN, INT_MAX) if field.kind is int else (-sys.float_info.max, sys.float_info.max)
    low = ends[0] if field.minimum is None else field.kind(field.minimum)
    high = ends[1] if field.maximum is None else field.kind(field.maximum)
    return min(low, value), max(high, value)


def _field(name: str, value: Any, fields: Mapping[str, Mapping[str, Field]]) -> Field:
    """How a name is declared, if what was recorded still is of that kind; else what the record shows."""
    tool, _, said = name.partition(".")
    declared = _PAYMENT_FIELDS.get(said) if tool == PAYMENT else fields.get(tool, {}).get(said)
    return declared if declared is not None and declared.kind is type(value) else Field(type(value))


_PAYMENT_FIELDS = {
    "amount_minor": Field(int, minimum=1, maximum=money.AMOUNT_MINOR_MAX),
    "currency": Field(str, choices=tuple(sorted(money.exponents()))),
    "customer_id": Field(str, length_max=64),
    "payee_id": Field(str, length_max=64),
}
