"""PostgreSQL array literals: one text constant a column, which the server reads several times faster than a list of expressions."""

from __future__ import annotations

from collections.abc import Iterable


def plain(values: Iterable[object]) -> str:
    """An array of what never holds a quote, a backslash or a brace when written as text: ids, codes, numbers, UUIDs, times. None is NULL."""
    return "{" + ",".join(["NULL" if value is None else f'"{value}"' for value in values]) + "}"


def texts(values: Iterable[str | None]) -> str:
    """An array of any text. None is NULL."""
    return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"


def flags(values: Iterable[bool]) -> str:
    """An array of truth values."""
    return "{" + ",".join(["t" if value else "f" for value in values]) + "}"


def hexes(values: Iterable[bytes]) -> str:
    """An array of byte strings."""
    return "{" + ",".join([f'"\\\\x{value.hex()}"' for value in values]) + "}"


def documents(values: Iterable[bytes]) -> str:
    """JSON documents, for `string_to_array(…, chr(31))`: no JSON text holds that character, so that nothing has to be escaped."""
    return b"\x1f".join(values).decode()


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
