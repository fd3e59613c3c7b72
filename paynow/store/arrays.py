"""PostgreSQL array literals: one text constant a column, which the server reads several times faster than a list of expressions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID


def plain(values: Iterable[object]) -> str:
    """An array of what never holds a quote or a backslash when written as text: numbers, times. None is NULL."""
    return "{" + ",".join(["NULL" if value is None else f'"{value}"' for value in values]) + "}"


def uuids(values: Iterable[UUID | None]) -> str:
    """An array of UUIDs. None is NULL."""
    return "{" + ",".join(["NULL" if value is None else f"{value.int:032x}" for value in values]) + "}"


def texts(values: Sequence[str]) -> str:
    """An array of any text."""
    joined = '","'.join(values)
    if "\\" in joined or joined.count('"') > 2 * (len(values) - 1):
        joined = '","'.join([value.replace("\\", "\\\\").replace('"', '\\"') for value in values])
    return '{"' + joined + '"}'


def flags(values: Iterable[bool]) -> str:
    """An array of truth values."""
    return "{" + ",".join(["t" if value else "f" for value in values]) + "}"


def hexes(values: Iterable[bytes]) -> str:
    """An array of byte strings."""
    return "{" + ",".join([f'"\\\\x{value.hex()}"' for value in values]) + "}"


def documents(values: Iterable[bytes]) -> str:
    """JSON documents, for `string_to_array(…, chr(31))`: no JSON text holds that character, so that nothing has to be escaped."""
    return b"\x1f".join(values).decode()
