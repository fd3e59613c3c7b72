"""The configuration is loaded: what ships < a file < `.env` < the environment < options of the command. All faults come at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paynow.errors import ConfigurationFault, ConfigurationRefused
from paynow.resources import folder
from paynow.settings.build import Value, build, shown
from paynow.settings.entries import merged, with_defaults_of_webhooks, with_tools_of_the_plan
from paynow.settings.layers import Layer, toml_layer
from paynow.settings.model import Settings
from paynow.settings.rules import broken_rules, secrets_of_webhooks_are_used, the_way_to_the_database_is_whole
from paynow.settings.secret import read_secrets, refuse_secrets
from paynow.settings.variables import Variable, from_dotenv, from_environment, from_options, settings_among, spellings, variable_layer

SHIPPED = "default.toml"
CONFIG = "PAYNOW_CONFIG"

__all__ = ["Loaded", "Value", "load"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and every key with its origin."""

    settings: Settings
    values: tuple[Value, ...]

    def origin_of(self, key: str) -> str:
        """Where a key was set; for a table like `agent.tools.getBalance`, where the first of its keys was."""
        return next((value.origin for value in self.values if value.key == key or value.key.startswith(f"{key}.")), "configuration")


def load(config_file: Path | None, environ: Mapping[str, str], *, dotenv: Path | None = None, options: Mapping[str, str] | None = None) -> Loaded:
    """The configuration of this process.

    `config_file` is what `--config` names; without it `PAYNOW_CONFIG` in `environ` or `dotenv` may name one. `dotenv` is a `.env` file, which
    need not exist. `options` are a command's own, by the key that they stand for, and outweigh all else: `{"server.port": "8081"}` is `--port`.
    Raises `ConfigurationRefused` with every fault there is.
    """
    faults: list[ConfigurationFault] = []
    environment, from_file = from_environment(environ), from_dotenv(dotenv, faults)
    files = [_shipped(faults), *_chosen(config_file, environment.get(CONFIG) or from_file.get(CONFIG), faults)]
    found = {".env": settings_among(from_file, faults), "environment": settings_among(environment, faults), "options": from_options(options or {})}
    spelt = spellings(files, [setting for settings in found.values() for setting in settings])
    layers = [*files, *(variable_layer(name, settings, spelt, faults) for name, settings in found.items())]
    for layer in layers:
        refuse_secrets(layer, faults)
    secrets, secret_origins = read_secrets([environment, from_file], faults)
    entries = merged(layers, faults)
    with_tools_of_the_plan(entries)
    with_defaults_of_webhooks(entries)
    faults += [*broken_rules(entries), *the_way_to_the_database_is_whole(entries, secrets, secret_origins)]
    faults += secrets_of_webhooks_are_used(entries, secrets, secret_origins)
    if faults:
        raise ConfigurationRefused(faults)
    return Loaded(build(entries, secrets), tuple(shown(entries, secret_origins)))


def _shipped(faults: list[ConfigurationFault]) -> Layer:
    """The defaults. Their paths are relative to the current directory, but the policy lies beside them."""
    layer = toml_layer(folder("config") / SHIPPED, faults, name=SHIPPED, base=Path.cwd())
    policy = layer.get(("policy", "file"))
    if isinstance(policy, str):
        layer.tree["policy"]["file"] = str(folder("config") / policy)
    return layer


def _chosen(config_file: Path | None, variable: Variable | None, faults: list[ConfigurationFault]) -> list[Layer]:
    """The file that the caller chose, if any; its paths are relative to its own folder."""
    if config_file is None and variable is not None:
        config_file = variable.base / variable.text
    if config_file is None:
        return []
    return [toml_layer(config_file, faults, name=str(config_file), base=config_file.absolute().parent)]
