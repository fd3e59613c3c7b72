"""Environment variables, `.env` and options of a command: which of them are settings, of which key, and with which value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv.parser import Binding, parse_stream

from paynow.errors import ConfigurationFault
from paynow.settings.fields import toml_value
from paynow.settings.layers import KeyPath, Layer
from paynow.settings.schema import key_at

PREFIX = "PAYNOW_"
NAMED_BY: dict[KeyPath, tuple[KeyPath, ...]] = {
    ("agent", "tools"): (("agent", "plan"), ("agent", "on_review")),
    ("plugins", "settings"): (("plugins", "enabled"),),
}
"""Tables whose entries have names of their own, and the lists that name them: a variable's capitals do not tell `getBalance` from `getbalance`."""


@dataclass(frozen=True, slots=True)
class Variable:
    """The text of a variable or option, where it was set, and what a relative path in it is relative to."""

    text: str
    origin: str
    base: Path


FoundSettings = list[tuple[KeyPath, Variable]]


def from_environment(environ: Mapping[str, str]) -> dict[str, Variable]:
    """The variables that are set; an empty one is not."""
    return {name: Variable(text, f"environment {name}", Path.cwd()) for name, text in environ.items() if text}


def from_dotenv(path: Path | None, faults: list[ConfigurationFault]) -> dict[str, Variable]:
    """What a `.env` file sets, if there is one: nothing is interpolated, of a name that stands twice the last counts."""
    found: dict[str, Variable] = {}
    if path is None or not path.exists():
        return found
    try:
        with path.open(encoding="utf-8") as stream:
            for binding in parse_stream(stream):
                origin = f"{path}:{_line(binding)}"
                if binding.error:
                    faults.append(ConfigurationFault(origin, "", "expected NAME=value"))
                elif binding.key and binding.value:
                    found[binding.key] = Variable(binding.value, origin, path.absolute().parent)
    except OSError as error:
        faults.append(ConfigurationFault(str(path), "", f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError:
        faults.append(ConfigurationFault(str(path), "", "is not UTF-8 text"))
    return found


def _line(binding: Binding) -> int:
    """The parser takes empty lines above a binding for a part of it."""
    written = binding.original.string
    return binding.original.line + written[: len(written) - len(written.lstrip())].count("\n")


def from_options(options: Mapping[str, str]) -> FoundSettings:
    """Options of a command by the key that they stand for: `{"server.port": "8081"}` is `--port 8081`."""
    return [(tuple(key.split(".")), Variable(text, f"option --{key.rpartition('.')[2]}", Path.cwd())) for key, text in options.items()]


def settings_among(found: Mapping[str, Variable], faults: list[ConfigurationFault]) -> FoundSettings:
    """The variables `PAYNOW_<SECTION>__<KEY>` with the paths they stand for; names without `__` are no settings."""
    settings: FoundSettings = []
    for name, variable in sorted(found.items()):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        if all(path) and len(path) > 1:
            settings.append((path, variable))
        else:
            faults.append(ConfigurationFault(variable.origin, name, "expected PAYNOW_<SECTION>__<KEY>"))
    return settings


def spellings(layers: Iterable[Layer], settings: FoundSettings) -> dict[KeyPath, dict[str, str]]:
    """Names of tools and plugins as the files and lists write them, by their lower-case form."""
    return {table: {name.lower(): name for name in _named(table, lists, list(layers), settings)} for table, lists in NAMED_BY.items()}


def _named(table: KeyPath, lists: tuple[KeyPath, ...], layers: list[Layer], settings: FoundSettings) -> set[str]:
    values = [layer.get(path) for layer in layers for path in (table, *lists)]
    values += [value_of(path, variable.text) for path, variable in settings if path in lists]
    return {name for value in values if isinstance(value, (list, dict)) for name in value if isinstance(name, str)}


def value_of(path: KeyPath, text: str) -> Any:
    """The raw value of a variable's text: as its key reads it; what only a plugin knows is TOML if it can be read so, else text."""
    key = key_at(path)
    return key.from_text(text) if key else toml_value(text)


def variable_layer(name: str, settings: FoundSettings, spelt: Mapping[KeyPath, Mapping[str, str]], faults: list[ConfigurationFault]) -> Layer:
    """The settings of one source as a layer; two that are in each other's way are a fault."""
    layer = Layer(name, Path.cwd())
    for raw, variable in settings:
        layer.base = variable.base
        names = spelt.get(raw[:2], {})
        path = (*raw[:2], *(names.get(part, part) for part in raw[2:3]), *raw[3:])
        in_the_way = layer.put(path, value_of(path, variable.text), variable.origin)
        if in_the_way:
            faults.append(ConfigurationFault(variable.origin, ".".join(path), f"is set at the same time by {in_the_way}"))
    return layer
