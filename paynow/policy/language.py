"""The port to the expression language, CEL (https://cel.dev). The only module that imports the library; knows no tool and no payment.

The library returns errors of evaluation as values, raises some, and reads texts only up to a NUL: all of that ends here as "cannot be told".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cel_expr_python import cel

from paynow.policy.tree import Node, read_tree

_TYPES = {int: cel.Type.INT, float: cel.Type.DOUBLE, bool: cel.Type.BOOL, str: cel.Type.STRING}
_COMPLAINT = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")


@dataclass(frozen=True, slots=True)
class Complaint:
    """What the compiler says: line and column from 1 (0: nowhere in particular), and its own words."""

    line: int
    column: int
    words: str


class NotCompiled(Exception):
    """The text is no expression over the declared names."""

    def __init__(self, complaints: tuple[Complaint, ...]) -> None:
        super().__init__(complaints[0].words)
        self.complaints = complaints


class Facts:
    """What is known of one payment, shared by all expressions that are asked about it."""

    __slots__ = ("activation",)

    def __init__(self, activation: cel.Activation) -> None:
        self.activation = activation


class Expression:
    """A compiled, type-checked expression."""

    __slots__ = ("_expression", "boolean", "kind")

    def __init__(self, expression: cel.Expression) -> None:
        self._expression = expression
        self.boolean = expression.return_type() == cel.Type.BOOL
        self.kind = expression.return_type().name().lower()
        """The library's name of the type of its value."""

    def tree(self) -> Node:
        """The expression as a tree."""
        return read_tree(self._expression.serialize())

    def truth(self, facts: Facts) -> bool | None:
        """True, false, or None if it cannot be told: a name without a value, a division by zero, an overflow, too many steps."""
        try:
            value = self._expression.eval(facts.activation).value()
        except Exception:  # whatever the library raises, the answer is that there is none
            return None
        return value if value is True or value is False else None

    def number(self, facts: Facts) -> int | None:
        """The whole number that it is, or None if it cannot be told."""
        try:
            value = self._expression.eval(facts.activation).value()
        except Exception:  # as above
            return None
        return value if type(value) is int else None


class Language:
    """Expressions over a fixed set of typed names. A name may have dots; no function but CEL's own exists, so nothing reaches Python."""

    def __init__(self, kinds: Mapping[str, type]) -> None:
        self._env = cel.NewEnv(variables={name: _TYPES[kind] for name, kind in kinds.items()})

    def compile(self, text: str) -> Expression:
        """The compiled expression. Raises `NotCompiled` with everything that the compiler has to say."""
        try:
            return Expression(self._env.compile(text))
        except RuntimeError as error:
            raise NotCompiled(_complaints(str(error))) from None

    def facts(self, values: Mapping[str, Any]) -> Facts:
        """Values by name; names may be missing. A text that the library would read wrongly is left out, as if it were missing."""
        return Facts(self._env.Activation({name: value for name, value in values.items() if not isinstance(value, str) or readable(value)}))


def pattern_fault(pattern: str) -> str | None:
    """What is wrong with a regular expression (RE2 syntax), or None."""
    env = cel.NewEnv(variables={"pattern": cel.Type.STRING})
    value = env.compile('"".matches(pattern)').eval(data={"pattern": pattern}).value()
    return value.removeprefix("INVALID_ARGUMENT: ") if isinstance(value, str) else None


def readable(text: str) -> bool:
    """Whether the library would read the whole text: it stops at a NUL, and a lone surrogate is no text to it."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _complaints(text: str) -> tuple[Complaint, ...]:
    found = tuple(
        Complaint(max(int(line), 0), max(int(column), 0), words.removesuffix(" [INVALID_ARGUMENT]"))
        for line, column, words in _COMPLAINT.findall(text)
    )
    return found or (Complaint(0, 0, text.splitlines()[0]),)
