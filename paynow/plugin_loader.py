"""Loads the plugins that the configuration asks for, once, at boot; whatever is wrong with any of them stops the boot, all faults at once.

Knows nothing of what plans, rules and routes do with what is registered.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pluggy import HookImpl, HookRelay, PluginManager

from paynow.errors import ConfigurationFault, ConfigurationRefused
from paynow.plugin_api import EventSink, Hooks, RateLimiterMaker, Tool
from paynow.plugin_checks import faults_of_limiter, faults_of_sensitive_field, faults_of_sink, faults_of_tool
from paynow.plugin_sources import PluginSource, choose, find
from paynow.settings import Settings
from paynow.settings.notation import did_you_mean

HOOKS = tuple(name for name in vars(Hooks) if name.startswith("paynow_"))


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin that runs: where it comes from (a file's path or `package dist==version`), the hooks it implements, and what it registered."""

    name: str
    source: str
    hooks: tuple[str, ...]
    tools: tuple[str, ...]
    sinks: tuple[str, ...]
    limiters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plugins:
    """All that plugins brought. `sinks` holds those that `events.sinks` names, in its order; `hook` holds the implementations of every hook."""

    manager: PluginManager
    hook: HookRelay
    tools: Mapping[str, Tool]
    sinks: Mapping[str, EventSink]
    limiters: Mapping[str, RateLimiterMaker]
    sensitive_fields: frozenset[str]
    loaded: tuple[LoadedPlugin, ...]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the things that a hook registers: the hook, the word for it in messages, its checks and its name."""

    hook: str
    word: str
    faults: Callable[[object], Iterator[str]]
    name: Callable[[Any], str]


_TOOLS = _Kind("paynow_register_tools", "tool", faults_of_tool, lambda tool: tool.name)
_SINKS = _Kind("paynow_register_event_sinks", "event sink", faults_of_sink, lambda sink: sink.name)
_LIMITERS = _Kind("paynow_register_rate_limiters", "rate limiter", faults_of_limiter, lambda maker: maker.name)
_SENSITIVE = _Kind("paynow_sensitive_fields", "sensitive field", faults_of_sensitive_field, lambda name: name)


def load_plugins(settings: Settings, *, origin_of: Callable[[str], str] = lambda key: "configuration") -> Plugins:
    """Imports and registers the chosen plugins, in the order of their names, and asks each for what it brings.

    `origin_of` says where a key was set. Raises `ConfigurationRefused` with everything that is wrong. Runs plugins' own code: call it
    before the event loop serves.
    """
    found, faults = find(settings.plugins.dirs, origin_of)
    chosen, more = choose(settings, found, origin_of)
    loading = _Loading(settings, origin_of, [*faults, *more])
    loading.register(chosen)
    plugins = loading.plugins()
    if loading.faults:
        raise ConfigurationRefused(loading.faults)
    return plugins


class _Loading:
    """One load: the manager that fills, and the faults found on the way."""

    def __init__(self, settings: Settings, origin_of: Callable[[str], str], faults: list[ConfigurationFault]) -> None:
        self.settings = settings
        self.origin_of = origin_of
        self.faults = faults
        self.manager = PluginManager("paynow")
        self.manager.add_hookspecs(Hooks)
        self.sources: dict[str, PluginSource] = {}

    def register(self, chosen: Sequence[PluginSource]) -> None:
        for source in chosen:
            try:
                plugin = source.load()
                self.manager.register(plugin, source.name)
            except (Exception, SystemExit) as error:
                self._fault(source, "cannot be loaded", error)
                continue
            faults = [*_unmarked(self.manager, plugin), *_unfit(self.manager, source.name)]
            if not faults and not self.manager.get_hookcallers(plugin):
                faults = ["implements no hook, so it would do nothing"]
            for fault in faults:
                self._fault(source, fault)
            if not faults:
                self.sources[source.name] = source

    def plugins(self) -> Plugins:
        brought = {kind: self._brought(kind) for kind in (_TOOLS, _SINKS, _LIMITERS, _SENSITIVE)}
        tools, sinks, limiters = (self._by_name(kind, brought[kind]) for kind in (_TOOLS, _SINKS, _LIMITERS))
        self._demand("events.sinks", _SINKS, self.settings.events.sinks, sinks)
        self._demand("rate_limit.backend", _LIMITERS, [self.settings.rate_limit.backend], limiters)
        return Plugins(
            manager=self.manager,
            hook=self.manager.hook,
            tools=tools,
            sinks=MappingProxyType({name: sinks[name] for name in self.settings.events.sinks if name in sinks}),
            limiters=limiters,
            sensitive_fields=frozenset(name for names in brought[_SENSITIVE].values() for name in names),
            loaded=tuple(self._loaded(source, brought) for source in self.sources.values()),
        )

    def _brought(self, kind: _Kind) -> dict[str, list[Any]]:
        """What each plugin registers through one hook, as far as it is sound."""
        brought: dict[str, list[Any]] = {name: [] for name in self.sources}
        for implementation in getattr(self.manager.hook, kind.hook).get_hookimpls():
            source = self.sources.get(implementation.plugin_name)
            if source is not None:
                brought[source.name] += self._sound(source, kind, implementation)
        return brought

    def _sound(self, source: PluginSource, kind: _Kind, implementation: HookImpl) -> Iterator[Any]:
        try:
            things = implementation.function(*(self.settings for _ in implementation.argnames))
        except (Exception, SystemExit) as error:
            self._fault(source, f"{kind.hook} failed", error)
            return
        if not isinstance(things, (list, tuple)):
            self._fault(source, f"{kind.hook} must return a list, not {type(things).__name__}")
            return
        for thing in things:
            faults = list(kind.faults(thing))
            for fault in faults:
                self._fault(source, fault)
            if not faults:
                yield thing

    def _by_name(self, kind: _Kind, brought: Mapping[str, Sequence[Any]]) -> Mapping[str, Any]:
        owners: dict[str, str] = {}
        named: dict[str, Any] = {}
        for plugin, things in brought.items():
            for thing in things:
                name = kind.name(thing)
                if name in named:
                    self._fault(self.sources[plugin], f"registers the {kind.word} `{name}`, which plugin `{owners[name]}` registers too; rename one")
                named.setdefault(name, thing)
                owners.setdefault(name, plugin)
        return MappingProxyType(named)

    def _demand(self, key: str, kind: _Kind, names: Iterable[str], registered: Mapping[str, Any]) -> None:
        for name in names:
            if name not in registered:
                message = f"no enabled plugin registers the {kind.word} `{name}`; {did_you_mean(name, registered)}"
                self.faults.append(ConfigurationFault(self.origin_of(key), key, message))

    def _loaded(self, source: PluginSource, brought: Mapping[_Kind, Mapping[str, Sequence[Any]]]) -> LoadedPlugin:
        hooks = sorted({caller.name for caller in self.manager.get_hookcallers(self.manager.get_plugin(source.name)) or ()})
        tools, sinks, limiters = (tuple(kind.name(thing) for thing in brought[kind][source.name]) for kind in (_TOOLS, _SINKS, _LIMITERS))
        return LoadedPlugin(source.name, source.source, tuple(hooks), tools, sinks, limiters)

    def _fault(self, source: PluginSource, message: str, error: BaseException | None = None) -> None:
        origin = source.source
        if error is not None:
            line = _line_in(source.source, error)
            origin = f"{origin}:{line}" if line else origin
            message = f"{message}: {type(error).__name__}: {error}"
        self.faults.append(ConfigurationFault(origin, f"plugin {source.name}", message))


def _unmarked(manager: PluginManager, plugin: object) -> Iterator[str]:
    """Functions that look like hooks and would never be called."""
    for name in dir(plugin):
        function = inspect.getattr_static(plugin, name, None)
        if name.startswith("paynow_") and callable(function) and manager.parse_hookimpl_opts(plugin, name) is None:
            yield f"{name} is not marked with @hookimpl, so it would never be called"


def _unfit(manager: PluginManager, plugin_name: str) -> Iterator[str]:
    """Hooks that do not exist, and implementations of a kind that does not fit: a hook is called plainly, with what it asks for."""
    for caller in manager.get_hookcallers(manager.get_plugin(plugin_name)) or ():
        implementation = next(each for each in caller.get_hookimpls() if each.plugin_name == plugin_name)
        if not caller.has_spec():
            if not implementation.optionalhook:
                yield f"there is no hook {caller.name}; {did_you_mean(caller.name, HOOKS)}"
            continue
        if inspect.iscoroutinefunction(implementation.function) or inspect.isasyncgenfunction(implementation.function):
            yield f"{caller.name} must be a plain function: hooks are called, never awaited"
        if implementation.kwargnames:
            yield f"{caller.name}: arguments with a default are never passed; leave the default out"
        if implementation.wrapper or implementation.hookwrapper:
            yield f"{caller.name}: wrappers are not called; implement the hook plainly"


def _line_in(file: str, error: BaseException) -> int | None:
    """The line of the plugin's own file where it went wrong, if it was there."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return lines[-1] if lines else None
