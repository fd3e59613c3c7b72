"""Holds what a tool returned to what it declared, so that policy rules meet the types they were checked against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paynow.agent.outcome import InvalidOutput
from paynow.plugin_api import Field


class OutputCheck:
    """The check for one tool: exactly the declared fields, each of its kind and within its bounds."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = tuple((name, field.accepts, _PLAIN[field.kind]) for name, field in fields.items())

    def __call__(self, output: Any) -> dict[str, Any]:
        """The output as a new dict of plain values, in the order of declaration. Raises `InvalidOutput`."""
        if not isinstance(output, Mapping):
            raise InvalidOutput("not_a_mapping")
        checked = {}
        for name, accepts, plain in self._fields:
            if name not in output:
                raise InvalidOutput(f"missing_{name}")
            checked[name] = _checked(name, output[name], accepts, plain)
        if len(output) != len(checked):
            raise InvalidOutput("undeclared_field")
        return checked


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
