"""Calls the plugins that observe. One that raises is logged with its name and changes nothing, neither for the payment nor for the next plugin.

pluggy's own fan-out stops at the first that raises; so each implementation is called by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pluggy
from loguru import logger

_FAULTS_NAMED_MAX = 100


class Observer:
    """One observing hook with all who listen when this is made; false if nobody does, so that nothing need be prepared for it."""

    __slots__ = ("_listeners", "_name", "_named")

    def __init__(self, hook: pluggy.HookCaller) -> None:
        # pluggy's order: the last registered is told first.
        self._listeners = tuple((one.plugin_name, one.function, one.argnames) for one in reversed(hook.get_hookimpls()))
        self._name = hook.name
        self._named: set[tuple[str, str]] = set()

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def __call__(self, **arguments: Any) -> None:
        """Tells everyone who listens, each with the arguments that it names."""
        for plugin, function, names in self._listeners:
            self._tell(plugin, function, [arguments[name] for name in names])

    def _tell(self, plugin: str, function: Callable[..., Any], arguments: list[Any]) -> None:
        try:
            function(*arguments)
        except BaseException as error:
            # Nothing is awaited here, so even a CancelledError is the plugin's own and not the request's.
            kind = type(error).__name__
            if (plugin, kind) not in self._named and len(self._named) < _FAULTS_NAMED_MAX:
                self._named.add((plugin, kind))
                logger.bind(plugin=plugin, hook=self._name, error=kind).opt(exception=error).error("observing plugin raised")
