"""A source of values as a tree that knows where each of its keys stands. What the values may be is not known here."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paynow.errors import ConfigurationFault
from paynow.settings.toml_lines import toml_lines

KeyPath = tuple[str, ...]


@dataclass(slots=True)
class Layer:
    """The raw values of one source. Relative paths in it are relative to `base`."""

    name: str
    base: Path
    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def origin(self, path: KeyPath) -> str:
        """Where the key stands, or the nearest table above it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return self.name

    def get(self, path: KeyPath) -> Any:
        """The raw value at a path; `None` if there is none."""
        value: Any = self.tree
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def put(self, path: KeyPath, value: Any, origin: str) -> str | None:
        """Adds one value. If something stands in its way nothing is added, and the origin of that is returned."""
        table = self.tree
        for length, name in enumerate(path[:-1], start=1):
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                return self.origins[path[:length]]
        if path[-1] in table:
            return self.origins[path]
        table[path[-1]] = value
        for length in range(1, len(path) + 1):
            self.origins.setdefault(path[:length], origin)
        return None

    def drop(self, path: KeyPath) -> None:
        """Removes one value, and the tables that are empty without it."""
        above = self.get(path[:-1]) if len(path) > 1 else self.tree
        del above[path[-1]]
        if not above and len(path) > 1:
            self.drop(path[:-1])


def toml_layer(path: Path, faults: list[ConfigurationFault], *, name: str, base: Path) -> Layer:
    """A TOML file as a layer; one that cannot be read adds a fault and is empty."""
    layer = Layer(name, base)
    try:
        text = path.read_text(encoding="utf-8")
        layer.tree = tomllib.loads(text)
    except OSError as error:
        faults.append(ConfigurationFault(name, "", f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError:
        faults.append(ConfigurationFault(name, "", "is not UTF-8 text"))
    except tomllib.TOMLDecodeError as error:
        faults.append(ConfigurationFault(f"{name}:{_line(error, text)}", "", f"is not valid TOML: {error}"))
    else:
        layer.origins = {key: f"{name}:{line}" for key, line in toml_lines(text).items()}
    return layer


def _line(error: tomllib.TOMLDecodeError, text: str) -> int:
    """The parser tells the place in words only: a line, or the end of the document."""
    line = re.search(r"at line ([0-9]+)", str(error))
    return int(line[1]) if line else len(text.splitlines())
