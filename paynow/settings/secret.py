"""Secrets: only by environment or `.env`, as themselves or as the name of a file that holds them. Nothing here ever repeats one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType

from paynow.errors import ConfigurationFault
from paynow.settings.layers import KeyPath, Layer
from paynow.settings.model import Secrets
from paynow.settings.variables import Variable

SECRETS = tuple(field.name.upper() for field in fields(Secrets) if field.name != "webhook_secrets")
OF_WEBHOOK = "WEBHOOK_SECRET_"
"""Begins the names of secrets that one webhook has for itself: `WEBHOOK_SECRET_CRM`."""
FILE = "_FILE"
SECRET_BYTES_MAX = 65_536


def refuse_secrets(layer: Layer, faults: list[ConfigurationFault]) -> None:
    """Takes what is named like a secret out of a layer, with a fault for each: a file of settings is read, copied and kept by many.

    What a plugin calls its own settings is its own affair.
    """
    for path in list(_paths(layer.tree)):
        name = next((name for name in _names(path) if name in SECRETS or name.startswith(OF_WEBHOOK)), None)
        if name and path[:2] != ("plugins", "settings"):
            message = f"{name} is a secret: set {name} or {name}{FILE} in the environment or in .env, never among the settings"
            faults.append(ConfigurationFault(layer.origin(path), ".".join(path), message))
            layer.drop(path)


def _names(path: KeyPath) -> tuple[str, str]:
    """What a path may mean as a secret's name: its last part, or all of it (`database.url`)."""
    return path[-1].upper().removesuffix(FILE), "_".join(path).upper().removesuffix(FILE)


def _paths(tree: Mapping[str, object], above: KeyPath = ()) -> Iterator[KeyPath]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _paths(value, (*above, name))
        else:
            yield (*above, name)


def read_secrets(sources: Sequence[Mapping[str, Variable]], faults: list[ConfigurationFault]) -> tuple[Secrets, dict[str, str]]:
    """The secrets, and where each that is set was found. The first source that names one, in either form, hides the others."""
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    for name in (*SECRETS, *_of_webhooks(sources)):
        source = next((source for source in sources if name in source or name + FILE in source), {})
        given, file = source.get(name), source.get(name + FILE)
        found = given or file
        if found is None:
            continue
        try:
            if given and file:
                raise ValueError(f"expected {name} or {name}{FILE}, not both")
            values[name] = _usable(given.text if given else _content(found))
            origins[name] = found.origin
        except ValueError as error:
            faults.append(ConfigurationFault(found.origin, name, str(error)))
    own = {name.removeprefix(OF_WEBHOOK).lower(): value for name, value in values.items() if name not in SECRETS}
    return Secrets(**{name.lower(): value for name, value in values.items() if name in SECRETS}, webhook_secrets=MappingProxyType(own)), origins


def _of_webhooks(sources: Sequence[Mapping[str, Variable]]) -> list[str]:
    named = {name.removesuffix(FILE) for source in sources for name in source if name.startswith(OF_WEBHOOK)}
    return sorted(name for name in named if name.startswith(OF_WEBHOOK))


def _content(variable: Variable) -> str:
    """What the named file holds, without the line break that editors end a file with."""
    try:
        with (variable.base / variable.text).open("rb") as stream:
            content = stream.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"the file that it names cannot be read: {error.strerror}") from None
    if len(content) > SECRET_BYTES_MAX:
        raise ValueError(f"the file that it names is larger than {SECRET_BYTES_MAX} bytes")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("the file that it names is not UTF-8 text") from None


def _usable(text: str) -> str:
    if not text or text != text.strip() or not text.isprintable():
        raise ValueError("expected one line of text without spaces or line breaks around it")
    return text
