"""Where things stand in a policy file: the line of every key. Knows TOML and no policy.

The standard library's parser tells no lines. It finds the statements all the same: lines are gathered until they parse.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

STATEMENT_LINES_MAX = 200
"""A statement over more lines is not followed; what it holds is reported on its first line."""

DEPTH_MAX = 8
"""Keys that stand deeper are reported where the table stands that holds them."""

Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Statement:
    line: int
    text: str
    parsed: dict[str, Any]


class Places:
    """The line of each key (from 1), by its path in the document; in arrays of tables (`[[rule]]`) by its path in one of them."""

    def __init__(self, text: str) -> None:
        self._document: dict[Path, _Statement] = {}
        self._elements: dict[str, list[dict[Path, _Statement]]] = {}
        within: dict[Path, _Statement] = self._document
        prefix: Path = ()
        for statement in _statements(text):
            if statement.text.lstrip().startswith("["):
                within, prefix = self._entered(statement)
            else:
                for path in _paths(statement.parsed):
                    within.setdefault(prefix + path, statement)

    def _entered(self, header: _Statement) -> tuple[dict[Path, _Statement], Path]:
        """The table that a header opens, and the path of its keys there."""
        *_, path = _paths(header.parsed)
        name, *rest = path
        self._document.setdefault((name,), header)
        if header.parsed == {name: [{}]}:
            self._elements.setdefault(name, []).append({(): header})
            return self._elements[name][-1], ()
        within, prefix = (self._elements[name][-1], tuple(rest)) if name in self._elements else (self._document, path)
        within.setdefault(prefix, header)
        return within, prefix

    def line(self, *path: str) -> int:
        """The line of a key of the document, or else of what holds it."""
        return _nearest(self._document, path, 1)

    def line_in(self, array: str, index: int, *path: str) -> int:
        """The line of a key of an array's table, or else of what holds it."""
        elements = self._elements.get(array, ())
        return _nearest(elements[index] if index < len(elements) else {}, path, self.line(array))

    def text_lines(self, array: str, index: int, key: str) -> tuple[int, ...]:
        """The line of the file for each line of a text that is a key of an array's table."""
        elements = self._elements.get(array, ())
        statement = elements[index].get((key,)) if index < len(elements) else None
        return _content_lines(statement) if statement else (self.line_in(array, index),)


def _nearest(statements: Mapping[Path, _Statement], path: Path, otherwise: int) -> int:
    for length in range(len(path), -1, -1):
        found = statements.get(path[:length])
        if found is not None:
            return found.line
    return otherwise


def _paths(parsed: Mapping[str, Any], depth: int = 1) -> Iterator[Path]:
    for key, value in parsed.items():
        yield (key,)
        if isinstance(value, dict) and depth < DEPTH_MAX:
            yield from ((key, *path) for path in _paths(value, depth + 1))


def _statements(text: str) -> Iterator[_Statement]:
    gathered: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        gathered.append(line)
        if len(gathered) > STATEMENT_LINES_MAX:
            return
        statement = "\n".join(gathered)
        try:
            parsed = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if parsed:
            yield _Statement(number - len(gathered) + 1, statement, parsed)
        gathered = []


def _content_lines(statement: _Statement) -> tuple[int, ...]:
    """The lines on which a text's own lines begin: a text in three quotes may start on the next line, and `\\` at a line's end joins two."""
    value = statement.text.partition("=")[2].lstrip()
    if not value.startswith(('"""', "'''")):
        return (statement.line,)
    rows = value[3:].split("\n")
    numbers: list[int] = []
    joined = False
    for offset, row in enumerate(rows):
        if (offset == 0 and not row and len(rows) > 1) or (joined and not row.strip()):
            continue
        if not joined:
            numbers.append(statement.line + offset)
        bare = row.rstrip(" \t")
        joined = value[0] == '"' and (len(bare) - len(bare.rstrip("\\"))) % 2 == 1
    return tuple(numbers)
