"""Whether a rule can ever be true: values are narrowed by what the rule asks of them. Knows trees and ranges, and no file or tool.

Each step may keep more than is possible, never less: what is not understood (a function, a comprehension) may be anything, and when
too many cases pile up the rule counts as possible. So a rule that is called impossible is impossible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from paynow.policy.ranges import Range, Span, Truth, Words, arithmetic, exactly
from paynow.policy.tree import Call, Const, Items, Name, Node

State: TypeAlias = Mapping[str, Range]
"""What each name may still be."""

STEPS_MAX = 20_000
BRANCHES_MAX = 64
ROUNDS_MAX = 3
"""A later condition may narrow what an earlier one compared with, so conditions are gone through again."""

OPPOSITE = {"_<_": "_>=_", "_<=_": "_>_", "_>_": "_<=_", "_>=_": "_<_", "_==_": "_!=_", "_!=_": "_==_"}
SWAPPED = {"_>_": "_<_", "_>=_": "_<=_"}
BOOLEAN_FUNCTIONS = frozenset({*OPPOSITE, "_&&_", "_||_", "!_", "@in"})


def first_impossible(tree: Node, state: State) -> Node | None:
    """The first of the conditions joined by `&&` with which the rule cannot be true any more; None if it may be true."""
    conditions = list(_conditions(tree))
    if _possible(conditions, state):
        return None
    return next(condition for number, condition in enumerate(conditions, start=1) if not _possible(conditions[:number], state))


def _conditions(node: Node) -> Iterator[Node]:
    if isinstance(node, Call) and node.function == "_&&_":
        for part in node.arguments:
            yield from _conditions(part)
    else:
        yield node


def _possible(conditions: Sequence[Node], state: State) -> bool:
    states = [state]
    search = _Search()
    for _ in range(ROUNDS_MAX):
        before = states
        for condition in conditions:
            states = search.narrowed(condition, True, states)
        if not states or states == before:
            break
    return bool(states)


class _Search:
    def __init__(self) -> None:
        self._steps_left = STEPS_MAX

    def narrowed(self, node: Node, wanted: bool, states: Sequence[State]) -> list[State]:
        """What is left of the states in which a condition has the wanted value; a few cases too many become the states as they were."""
        found: list[State] = []
        for state in states:
            found += [new for new in self.assume(node, wanted, state) if new not in found]
            if len(found) > BRANCHES_MAX:
                return list(states)
        return found

    def assume(self, node: Node, wanted: bool, state: State) -> list[State]:
        """The states within `state` that may make `node` the wanted truth value."""
        self._steps_left -= 1
        if self._steps_left < 0:
            return [state]
        if isinstance(node, Const):
            return [state] if node.value is wanted else []
        if isinstance(node, Name):
            return _kept(state, [(node, Truth(frozenset({wanted})))]) if isinstance(state.get(node.name), Truth) else [state]
        return self._assume_call(node, wanted, state) if isinstance(node, Call) else [state]

    def _assume_call(self, node: Call, wanted: bool, state: State) -> list[State]:
        function, parts = node.function, node.arguments
        if function in OPPOSITE:
            return self._compared(function if wanted else OPPOSITE[function], parts[0], parts[1], state)
        if function == "@in" and isinstance(parts[1], Items):
            return self._member(parts[0], parts[1].elements, wanted, state)
        ways = _ways(function, parts, wanted)
        return [new for way in ways for new in self._each(way, state)] if ways else [state]

    def _each(self, conditions: Sequence[tuple[Node, bool]], state: State) -> list[State]:
        """All of the conditions hold."""
        states: list[State] = [state]
        for node, wanted in conditions:
            states = self.narrowed(node, wanted, states)
        return states

    def _member(self, value: Node, elements: Sequence[Node], wanted: bool, state: State) -> list[State]:
        held = state.get(value.name) if isinstance(value, Name) else None
        if isinstance(held, Words) and all(isinstance(element, Const) for element in elements):
            words = frozenset(element.value for element in elements)
            return _kept(state, [(value, held.only(words) if wanted else held.without(words))])
        if wanted:
            return [new for element in elements for new in self._compared("_==_", value, element, state)]
        states: list[State] = [state]
        for element in elements:
            states = [new for held in states for new in self._compared("_!=_", value, element, held)]
        return states

    def _compared(self, function: str, left: Node, right: Node, state: State) -> list[State]:
        self._steps_left -= 1
        if _is_boolean(left, state) and _is_boolean(right, state):
            if function not in ("_==_", "_!=_"):
                return [state]
            pairs = [(truth, truth is (function == "_==_")) for truth in (True, False)]
            return [new for one, other in pairs for new in self._each([(left, one), (right, other)], state)]
        if function in SWAPPED:
            function, left, right = SWAPPED[function], right, left
        one, other = _range_of(left, state), _range_of(right, state)
        if (one is not None and one.empty) or (other is not None and other.empty):
            return []
        if isinstance(one, Span) and isinstance(other, Span) and one.whole is other.whole:
            return _kept(state, list(zip((left, right), _spans(function, one, other), strict=True)))
        if isinstance(one, Words) and isinstance(other, Words):
            return _kept(state, list(zip((left, right), _words(function, one, other), strict=True)))
        return [state]


def _ways(function: str, parts: Sequence[Node], wanted: bool) -> list[list[tuple[Node, bool]]]:
    """In which ways the parts of a logical operator give the wanted value; none if it is no logical operator."""
    if function == "!_":
        return [[(parts[0], not wanted)]]
    if function == "_?_:_":
        return [[(parts[0], True), (parts[1], wanted)], [(parts[0], False), (parts[2], wanted)]]
    if function in ("_&&_", "_||_"):
        conditions = [(part, wanted) for part in parts]
        return [conditions] if wanted is (function == "_&&_") else [[condition] for condition in conditions]
    return []


def _spans(function: str, one: Span, other: Span) -> tuple[Span, Span]:
    """What two numbers may be, given how they compare."""
    if function == "_<_":
        return one.below(other.high), other.above(one.low)
    if function == "_<=_":
        return one.meet(Span(one.low, other.high, one.whole)), other.meet(Span(one.low, other.high, one.whole))
    if function == "_==_":
        return one.meet(other), other.meet(one)
    return (one.without(other.low) if other.low == other.high else one), (other.without(one.low) if one.low == one.high else other)


def _words(function: str, one: Words, other: Words) -> tuple[Words, Words]:
    """What two texts may be, given whether they are equal; the order of texts is not followed."""
    if function == "_==_":
        return one.meet(other), other.meet(one)
    if function == "_!=_":
        single = [words.among if words.among is not None and len(words.among) == 1 else frozenset() for words in (one, other)]
        return one.without(single[1]), other.without(single[0])
    return one, other


def _kept(state: State, narrowed: Sequence[tuple[Node, Range]]) -> list[State]:
    """The state with what its names were narrowed to; none if something is left without a value."""
    new = dict(state)
    for node, range_ in narrowed:
        if isinstance(node, Name) and node.name in new:
            # The same name may stand on both sides: what holds is what both sides leave.
            new[node.name] = left = new[node.name].meet(range_)  # type: ignore[arg-type]
        else:
            left = range_
        if left.empty:
            return []
    return [new]


def _is_boolean(node: Node, state: State) -> bool:
    if isinstance(node, Const):
        return isinstance(node.value, bool)
    if isinstance(node, Name):
        return isinstance(state.get(node.name), Truth)
    return isinstance(node, Call) and node.function in BOOLEAN_FUNCTIONS


def _range_of(node: Node, state: State) -> Range | None:
    """What an expression may be; None if it may be anything."""
    if isinstance(node, Const):
        return exactly(node.value)
    if isinstance(node, Name):
        return state.get(node.name)
    return _calculated(node.function, [_range_of(part, state) for part in node.arguments]) if isinstance(node, Call) else None


def _calculated(function: str, parts: Sequence[Range | None]) -> Span | None:
    """What a calculation with numbers may give; None if it may be anything."""
    numbers = [part for part in parts if isinstance(part, Span)]
    if not numbers or len(numbers) < len(parts) or len({number.whole for number in numbers}) > 1:
        return None
    first = numbers[0]
    if any(number.empty for number in numbers):
        return first if first.empty else numbers[1]
    if function == "-_":
        return arithmetic("_-_", Span(0, 0, True) if first.whole else Span(0.0, 0.0, False), first)
    if function == "double":
        return Span(float(first.low), float(first.high), False)
    return arithmetic(function, first, numbers[1]) if len(numbers) == 2 else None
