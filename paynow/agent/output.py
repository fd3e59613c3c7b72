"""Holds what a tool returned to what it declared, so that policy rules meet the types they were checked against."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from paynow.agent.outcome import InvalidOutput
from paynow.plugin_api import Field


class OutputCheck:
    """The check for one tool: exactly the declared fields, each of its kind and within its bounds."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = tuple((name, field.kind, *_bounds(field), field.choices, field.accepts, _PLAIN[field.kind]) for name, field in fields.items())

    def __call__(self, output: Any) -> dict[str, Any]:
        """The output as a new dict of plain values, in the order of declaration. Raises `InvalidOutput`."""
        if not isinstance(output, Mapping):
            raise InvalidOutput("not_a_mapping")
        checked = {}
        for name, kind, low, high, choices, accepts, plain in self._fields:
            if name not in output:
                raise InvalidOutput(f"missing_{name}")
            value = output[name]
            # Nearly every value is exactly of its kind, and told here without a call.
            if type(value) is kind and (value in choices if kind is str else low <= value <= high):
                checked[name] = value
            else:
                checked[name] = _checked(name, value, accepts, plain)
        if len(output) != len(checked):
            raise InvalidOutput("undeclared_field")
        return checked


def _bounds(field: Field) -> tuple[float, float]:
    """The least and the greatest value that a field's kind and bounds allow; of a flag, false and true."""
    if field.kind is bool:
        return False, True
    least, greatest = (-(2**63), 2**63 - 1) if field.kind is int else (-sys.float_info.max, sys.float_info.max)
    return least if field.minimum is None else max(least, field.minimum), greatest if field.maximum is None else min(greatest, field.maximum)


def _checked(name: str, value: Any, accepts: Callable[[object], bool], plain: Callable[[Any], Any]) -> Any:
    try:
        if accepts(value):
            return plain(value)
    except (ArithmeticError, ValueError):
        pass  # a whole number that no float can hold, a text that cannot be stored
    raise InvalidOutput(f"wrong_{name}")


def _storable(value: str) -> str:
    """The text itself. Raises `ValueError` for what JSON or PostgreSQL cannot hold: a lone surrogate, NUL."""
    text = str.__str__(value)
    text.encode()
    if "\0" in text:
        raise ValueError("NUL in a text")
    return text


# What derives from a kind (an enum's member, a number of some library) becomes the plain value; a whole number in a `real` field a float.
_PLAIN: dict[type, Callable[[Any], Any]] = {bool: bool, int: int.__int__, float: float, str: _storable}
