"""Where plugins lie: files in the configured folders and among the built-in ones, and installed packages.

Finding a plugin never imports it: nothing of it runs before the configuration has chosen it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from paynow.errors import ConfigurationFault
from paynow.resources import folder
from paynow.settings import Settings
from paynow.settings.notation import did_you_mean

ENTRY_POINT_GROUP = "paynow"

OriginOf = Callable[[str], str]
"""Says where a key of the configuration was set."""


@dataclass(frozen=True, slots=True)
class PluginSource:
    """A plugin that could be loaded: its name, where it lies (a file's path or `package dist==version`), and how it is imported."""

    name: str
    source: str
    built_in: bool
    load: Callable[[], object]


def find(dirs: Sequence[Path], origin_of: OriginOf) -> tuple[list[PluginSource], list[ConfigurationFault]]:
    """Every plugin there is, by name and then in the order of the search: the folders as configured, the built-in one, packages."""
    found: list[PluginSource] = []
    faults: list[ConfigurationFault] = []
    built_in = folder("plugins").resolve()
    for place in [*dict.fromkeys(place.resolve() for place in dirs if place.resolve() != built_in), built_in]:
        try:
            found += [_file(path, built_in=place == built_in) for path in _files(place)]
        except OSError as error:
            faults.append(ConfigurationFault(origin_of("plugins.dirs"), "plugins.dirs", f"{place} cannot be read: {error.strerror}"))
    found += [_package(entry_point) for entry_point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: (entry.name, entry.value))]
    return sorted(found, key=lambda source: source.name), faults


def choose(settings: Settings, found: Sequence[PluginSource], origin_of: OriginOf) -> tuple[list[PluginSource], list[ConfigurationFault]]:
    """The plugins that the configuration asks for, by name: those enabled, and the built-in ones behind the configured sinks and limiters."""
    built_in = {source.name for source in found if source.built_in}
    implied = [f"sink_{sink}" for sink in settings.events.sinks] + [f"limiter_{settings.rate_limit.backend}"]
    if settings.events.webhooks:
        implied.append("sink_webhook")
    if settings.rate_limit.on_store_failure == "local":
        implied.append("limiter_memory")
    wanted = {*settings.plugins.enabled, *(name for name in implied if name in built_in)}
    chosen: list[PluginSource] = []
    messages: list[tuple[str, str]] = []
    for name in sorted(wanted):
        places = [source for source in found if source.name == name]
        if len(places) == 1:
            chosen += places
        elif not places:
            messages.append(("plugins.enabled", f"there is no plugin `{name}`; {did_you_mean(name, (source.name for source in found))}"))
        else:
            listed = " and ".join(place.source for place in places)
            messages.append(("plugins.enabled", f"plugin `{name}` lies in more than one place: {listed}; rename one"))
    for name in sorted(set(settings.plugins.settings) - wanted):
        messages.append((f"plugins.settings.{name}", f"the plugin is not enabled; {did_you_mean(name, wanted)}"))
    return chosen, [ConfigurationFault(origin_of(key), key, message) for key, message in messages]


def _files(place: Path) -> list[Path]:
    """The plugin files of a folder; one that is not there holds none. Names with `_` in front, tests and pytest's own file are no plugins."""
    if not place.exists():
        return []
    paths = [path for path in place.iterdir() if path.suffix == ".py" and path.is_file()]
    return sorted(path for path in paths if not path.name.startswith(("_", ".", "test_")) and path.name != "conftest.py")


def _file(path: Path, *, built_in: bool) -> PluginSource:
    return PluginSource(path.stem, str(path), built_in, partial(_import_file, path))


def _package(entry_point: EntryPoint) -> PluginSource:
    package = f"{entry_point.dist.name}=={entry_point.dist.version}" if entry_point.dist else entry_point.value
    return PluginSource(entry_point.name, f"package {package}", False, entry_point.load)


def _import_file(path: Path) -> object:
    name = f"paynow_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up by its name while the file still runs
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
