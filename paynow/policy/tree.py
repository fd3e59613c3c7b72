"""A checked rule as a tree, read from the bytes in which the expression library hands it out. Knows no meaning of any function.

The bytes are a `cel.expr.CheckedExpr` (google/cel-spec, proto/cel/expr/checked.proto and syntax.proto) inside a `google.protobuf.Any`;
the numbers below are the field numbers of those files. Names that the checker resolved (`payment.currency`) arrive as one name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

Wire: TypeAlias = dict[int, list[Any]]


@dataclass(frozen=True, slots=True)
class Const:
    """A literal: bool, int, float or str."""

    value: bool | int | float | str
    at: int


@dataclass(frozen=True, slots=True)
class Name:
    """A declared name, or the variable of a comprehension."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function or operator (`_&&_`, `_>_`, `@in`, …) with its arguments; the target of a method comes first."""

    function: str
    arguments: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Items:
    """A list that is written out."""

    elements: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Loop:
    """`all`, `exists`, `map`, …: what is gone through, and the parts that are evaluated for every element."""

    over: Node
    parts: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Other:
    """Anything else, with what it consists of."""

    parts: tuple[Node, ...]
    at: int


Node: TypeAlias = Const | Name | Call | Items | Loop | Other


def children(node: Node) -> tuple[Node, ...]:
    """The parts of which a node consists."""
    if isinstance(node, Call):
        return node.arguments
    if isinstance(node, Items):
        return node.elements
    if isinstance(node, Loop):
        return (node.over, *node.parts)
    return node.parts if isinstance(node, Other) else ()


def walk(node: Node) -> Iterator[Node]:
    """A node and everything below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def read_tree(serialized: bytes) -> Node:
    """The tree of a serialized checked expression; `at` is the position in the expression's text (of an operator: its own)."""
    checked = _fields(_fields(serialized)[2][0])
    positions: dict[int, int] = {}
    for entry in _fields(checked[5][0]).get(4, ()):
        pair = _fields(entry)
        positions[_first(pair, 1, 0)] = _first(pair, 2, 0)
    return _Reader(positions).node(checked[4][0])


class _Reader:
    """Builds the nodes of one expression; `positions` are by the ids of its parts."""

    def __init__(self, positions: dict[int, int]) -> None:
        self._positions = positions

    def node(self, data: bytes) -> Node:
        fields = _fields(data)
        at = self._positions.get(_first(fields, 2, 0), 0)
        for number, build in self._KINDS.items():
            if number in fields:
                return build(self, _fields(fields[number][0]), at)
        return Other((), at)

    def _nodes(self, fields: Wire, *numbers: int) -> tuple[Node, ...]:
        return tuple(self.node(part) for number in numbers for part in fields.get(number, ()))

    def _constant(self, fields: Wire, at: int) -> Node:
        for number, value_of in _CONSTANTS.items():
            if number in fields:
                return Const(value_of(fields[number][0]), at)
        return Other((), at)

    def _name(self, fields: Wire, at: int) -> Node:
        return Name(_first(fields, 1, b"").decode(), at)

    def _selection(self, fields: Wire, at: int) -> Node:
        return Other(self._nodes(fields, 1), at)

    def _call(self, fields: Wire, at: int) -> Node:
        return Call(fields[2][0].decode(), self._nodes(fields, 1, 3), at)

    def _list(self, fields: Wire, at: int) -> Node:
        return Items(self._nodes(fields, 1), at)

    def _map(self, fields: Wire, at: int) -> Node:
        return Other(tuple(part for entry in fields.get(2, ()) for part in self._nodes(_fields(entry), 3, 4)), at)

    def _loop(self, fields: Wire, at: int) -> Node:
        return Loop(self._nodes(fields, 2)[0], self._nodes(fields, 4, 5, 6, 7), at)

    _KINDS: ClassVar[dict[int, Callable[[_Reader, Wire, int], Node]]] = {
        3: _constant,
        4: _name,
        5: _selection,
        6: _call,
        7: _list,
        8: _map,
        9: _loop,
    }


_CONSTANTS: dict[int, Callable[[Any], bool | int | float | str]] = {
    2: bool,
    3: lambda unsigned: unsigned - 2**64 if unsigned >= 2**63 else unsigned,
    5: lambda eight: struct.unpack("<d", eight)[0],
    6: bytes.decode,
}


def _first(fields: Wire, number: int, default: Any) -> Any:
    return fields[number][0] if number in fields else default


def _fields(data: bytes) -> Wire:
    """One protobuf message: each field's values by its number (https://protobuf.dev/programming-guides/encoding)."""
    fields: Wire = {}
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        value: int | bytes
        if tag & 7 == 0:
            value, position = _varint(data, position)
        else:
            size, position = _varint(data, position) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], position)
            value, position = data[position : position + size], position + size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
