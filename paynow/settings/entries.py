"""The keys of all layers in one place: what each holds, how it was written, and where; the uppermost layer counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from paynow.errors import ConfigurationFault
from paynow.settings.layers import KeyPath, Layer
from paynow.settings.schema import NAMED_TABLES, SCHEMA, TOOL_DEFAULTS, WEBHOOK_DEFAULTS

NESTED = {*NAMED_TABLES, ("plugins", "settings")}
"""Tables of tables: their keys lie at depth four. All others lie at depth two, or three in a table of their own (`events.kafka.topic`)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key's value as the program takes it, where it was written, and in the how-manieth layer (0: shipped, -1: built in)."""

    value: Any
    written: Any
    origin: str
    rank: int


@dataclass(slots=True)
class Entries:
    """Every key that is valid. A key that some layer has wrong is not there at all, so that no rule judges by what it stands for."""

    by_path: dict[KeyPath, Entry]

    def get(self, key: str) -> Any:
        """The value of a key like `agent.deadline_ms`; `None` if it is wrong."""
        entry = self.by_path.get(tuple(key.split(".")))
        return entry.value if entry else None

    def under(self, *table: str) -> dict[str, dict[str, Entry]]:
        """The keys of a table of tables, by the name of the inner table."""
        found: dict[str, dict[str, Entry]] = {}
        for path, entry in self.by_path.items():
            if path[: len(table)] == table:
                found.setdefault(path[-2], {})[path[-1]] = entry
        return found

    def fault(self, message: str, *paths: KeyPath) -> ConfigurationFault:
        """A fault of several keys together, at the one that was set last: the shipped ones went well together."""
        path = max((path for path in paths if path in self.by_path), key=lambda path: self.by_path[path].rank)
        return ConfigurationFault(self.by_path[path].origin, ".".join(path), message)


def merged(layers: Iterable[Layer], faults: list[ConfigurationFault]) -> Entries:
    """All layers, lowest first, each checked by the schema on its own."""
    by_path: dict[KeyPath, Entry] = {}
    wrong: list[KeyPath] = []
    for rank, layer in enumerate(layers):
        data, found = _checked(layer)
        faults += [ConfigurationFault(layer.origin(path), ".".join(path), message) for path, message in found]
        wrong += [path for path, _ in found]
        for path, value in _leaves(data):
            by_path[path] = Entry(_anchored(value, layer.base), layer.get(path), layer.origin(path), rank)
    return Entries({path: entry for path, entry in by_path.items() if not any(path[: len(prefix)] == prefix for prefix in wrong)})


def with_tools_of_the_plan(entries: Entries) -> None:
    """Completes what a tool of the plan does not say, and forgets the shipped limits of tools that are in no plan."""
    plan, on_review = entries.get("agent.plan"), entries.get("agent.on_review")
    if plan is None or on_review is None:
        return
    by_path = entries.by_path
    for path, entry in list(by_path.items()):
        if path[:2] == ("agent", "tools") and path[2] not in (*plan, *on_review) and entry.rank == 0:
            del by_path[path]
    for tool in (*plan, *on_review):
        for name, value in TOOL_DEFAULTS.items():
            by_path.setdefault(("agent", "tools", tool, name), Entry(value, value, "built-in default", -1))


def with_defaults_of_webhooks(entries: Entries) -> None:
    """Completes what a webhook's table does not say."""
    for webhook in entries.under("events", "webhooks"):
        for name, value in WEBHOOK_DEFAULTS.items():
            taken = tuple(value) if isinstance(value, list) else value
            entries.by_path.setdefault(("events", "webhooks", webhook, name), Entry(taken, value, "built-in default", -1))


def _checked(layer: Layer) -> tuple[dict[str, Any], list[tuple[KeyPath, str]]]:
    try:
        return SCHEMA.load(layer.tree, partial=True), []
    except ValidationError as error:
        return error.valid_data, list(_flat(error.messages))  # type: ignore[return-value]


def _flat(messages: Any, above: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """marshmallow's tree of messages as paths; `_schema` is its name for the table itself."""
    if isinstance(messages, dict):
        for name, below in messages.items():
            yield from _flat(below, above if name == "_schema" else (*above, str(name)))
    else:
        yield from ((above, message) for message in messages)


def _leaves(data: dict[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    for section, table in data.items():
        for name, value in table.items():
            if (section, name) in NESTED:
                yield from (((section, name, inner, key), leaf) for inner, keys in value.items() for key, leaf in keys.items())
            elif isinstance(value, dict):
                yield from (((section, name, key), leaf) for key, leaf in value.items())
            else:
                yield (section, name), value


def _anchored(value: Any, base: Path) -> Any:
    """Paths made absolute: relative ones are relative to where they were written."""
    if isinstance(value, Path):
        return base / value
    if isinstance(value, tuple):
        return tuple(_anchored(item, base) for item in value)
    return value
