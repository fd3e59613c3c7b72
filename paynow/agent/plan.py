"""The plan: which tools are called, in which phase, within which limits. Made once at boot from the configuration and what the plugins registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from paynow.errors import ConfigurationFault, ConfigurationRefused
from paynow.plugin_api import Effect, Tool
from paynow.settings import AgentSettings, ToolSettings
from paynow.settings.notation import did_you_mean


@dataclass(frozen=True, slots=True)
class PlannedTool:
    """A tool with its limits."""

    tool: Tool
    settings: ToolSettings


@dataclass(frozen=True, slots=True)
class Plan:
    """READ tools to gather before the verdict, WRITE tools to act when it is `review`."""

    gather: tuple[PlannedTool, ...]
    on_review: tuple[PlannedTool, ...]


def make_plan(settings: AgentSettings, tools: Mapping[str, Tool], *, origin_of: Callable[[str], str] = lambda key: "configuration") -> Plan:
    """The plan that the settings name. `tools` are all that plugins registered, by name; `origin_of` says where a key such as `agent.plan` was set.

    Raises `ConfigurationRefused` with every fault: a name that no plugin registers, a tool in the wrong phase.
    """
    phases = (("agent.plan", settings.plan, Effect.READ), ("agent.on_review", settings.on_review, Effect.WRITE))
    faults = [ConfigurationFault(origin_of(key), key, message) for key, names, effect in phases for message in _faults(names, effect, tools)]
    if faults:
        raise ConfigurationRefused(faults)
    gather, on_review = (tuple(PlannedTool(tools[name], settings.tools[name]) for name in names) for _, names, _ in phases)
    return Plan(gather, on_review)


def _faults(names: Sequence[str], effect: Effect, tools: Mapping[str, Tool]) -> Iterator[str]:
    for name in names:
        if name not in tools:
            yield f"no enabled plugin registers a tool {name}; {did_you_mean(name, tools)}"
        elif tools[name].effect is not effect:
            yield f"{name} is a {tools[name].effect.upper()} tool; only {effect.upper()} tools may stand here"
