"""On which line of a TOML file each table and key stands: the standard library's parser does not say."""

from __future__ import annotations

import tomllib
from typing import Any


def toml_lines(text: str) -> dict[tuple[str, ...], int]:
    """The first line (from 1) of every table and key of a valid TOML document, by path.

    The parser itself finds the statements: lines are gathered until they parse, so that strings and arrays over several lines,
    quoted and dotted keys and inline tables are read exactly as they are when the values are.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    statement, first = "", 1
    for number, line in enumerate(text.split("\n"), start=1):
        statement += f"{line}\n"
        try:
            parsed = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        paths = _paths(parsed)
        if statement.lstrip().startswith("["):
            table, above = paths[-1], ()
        else:
            above = table
        for path in paths:
            lines.setdefault(above + path, first)
        statement, first = "", number + 1
    return lines


def _paths(value: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every path in a value, the upper ones first; a list of tables counts as its tables."""
    if isinstance(value, list):
        return [path for item in value if isinstance(item, dict) for path in _paths(item, above)]
    if not isinstance(value, dict):
        return []
    return [path for name, item in value.items() for path in [(*above, name), *_paths(item, (*above, name))]]
