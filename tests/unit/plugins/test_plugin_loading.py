"""Which plugins run, and what is known of them afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from paynow.errors import ConfigurationRefused
from paynow.plugin_loader import LoadedPlugin, Plugins, load_plugins
from paynow.plugin_sources import find
from paynow.resources import folder
from paynow.settings import Settings

TRUST = """
from paynow.plugin_api import Effect, Tool, flag, hookimpl

async def call(context):
    return {"trusted": True}

@hookimpl
def paynow_register_tools(settings):
    return [Tool("getTrust", Effect.READ, {"trusted": flag()}, call)]

@hookimpl
def paynow_sensitive_fields():
    return ["device_id"]
"""

IMPORT_IS_SEEN = """
from pathlib import Path
Path(__file__).with_suffix(".imported").touch()
"""


def test_a_plugin_that_is_enabled_brings_its_tools(boot: Callable[..., Plugins], tmp_path: Path) -> None:
    plugins = boot({"trust": TRUST})
    assert plugins.tools["getTrust"].output.keys() == {"trusted"}
    source = str((tmp_path / "mine" / "trust.py").resolve())
    hooks = ("paynow_register_tools", "paynow_sensitive_fields")
    assert LoadedPlugin("trust", source, hooks, ("getTrust",), (), ()) in plugins.loaded


def test_a_plugin_that_is_not_enabled_is_not_even_imported(boot: Callable[..., Plugins], tmp_path: Path) -> None:
    plugins = boot({"quiet": IMPORT_IS_SEEN}, enabled=())
    assert "quiet" not in {plugin.name for plugin in plugins.loaded}
    assert not (tmp_path / "mine" / "quiet.imported").exists()


def test_the_built_in_tools_are_found_without_a_folder(settings_of: Callable[..., Settings]) -> None:
    plugins = load_plugins(settings_of(enabled=("get_balance", "get_risk_signals", "create_case")))
    assert set(plugins.tools) == {"getBalance", "getRiskSignals", "createCase"}


def test_the_folder_of_the_built_in_plugins_may_be_configured_too(settings_of: Callable[..., Settings]) -> None:
    assert "getBalance" in load_plugins(settings_of(folder("plugins"), folder("plugins"), enabled=("get_balance",))).tools


def test_the_configured_sinks_and_the_limiter_bring_their_built_in_plugins(settings_of: Callable[..., Settings]) -> None:
    plugins = load_plugins(settings_of(sinks=("log", "memory"), backend="memory"))
    assert [plugin.name for plugin in plugins.loaded] == ["limiter_memory", "sink_log", "sink_memory"]
    assert list(plugins.sinks) == ["log", "memory"]
    assert list(plugins.limiters) == ["memory"]


def test_limiting_within_the_process_while_the_store_is_down_brings_the_memory_limiter(settings_of: Callable[..., Settings]) -> None:
    settings = settings_of()
    local = replace(settings, rate_limit=replace(settings.rate_limit, on_store_failure="local"))
    assert set(load_plugins(local).limiters) == {"memory", "postgres"}


def test_only_sinks_that_the_configuration_names_are_kept(settings_of: Callable[..., Settings]) -> None:
    plugins = load_plugins(settings_of(enabled=("sink_log",), sinks=("memory",)))
    assert list(plugins.sinks) == ["memory"]
    assert "log" in next(plugin.sinks for plugin in plugins.loaded if plugin.name == "sink_log")


def test_plugins_are_loaded_in_the_order_of_their_names(boot: Callable[..., Plugins]) -> None:
    files = {"zebra": TRUST, "ant": TRUST.replace("getTrust", "getAnt"), "bee": TRUST.replace("getTrust", "getBee")}
    assert [plugin.name for plugin in boot(files).loaded] == ["ant", "bee", "limiter_postgres", "sink_memory", "zebra"]


def test_plugins_are_found_in_the_order_of_their_names_wherever_they_lie(folder_of: Callable[..., Path]) -> None:
    found, faults = find([folder_of({"zebra": TRUST, "cat": TRUST}, "one"), folder_of({"ant": TRUST}, "two")], str)
    names = [source.name for source in found]
    assert faults == []
    assert names == sorted(names)
    assert {"ant", "cat", "zebra", "get_balance"} <= set(names)


def test_files_that_are_no_plugins_are_not_found(boot: Callable[..., Plugins], refusals: Callable[..., list[str]]) -> None:
    files = {"_helper": TRUST, "test_trust": TRUST, "conftest": TRUST}
    assert [line.split("`")[1] for line in refusals(files)] == ["_helper", "conftest", "test_trust"]


def test_sensitive_fields_of_all_plugins_are_gathered(boot: Callable[..., Plugins]) -> None:
    other = TRUST.replace("getTrust", "getOther").replace("device_id", "card_token")
    assert boot({"one": TRUST, "two": other}).sensitive_fields == {"device_id", "card_token"}


def test_every_hook_can_be_called_through_the_relay(boot: Callable[..., Plugins]) -> None:
    plugins = boot({"trust": TRUST})
    assert plugins.hook.paynow_sensitive_fields() == [["device_id"]]
    assert plugins.manager.has_plugin("trust")


def test_a_plugin_reads_its_own_settings(boot: Callable[..., Plugins]) -> None:
    named = TRUST.replace('Tool("getTrust"', 'Tool(settings.plugins.settings["trust"]["tool"]')
    assert "getMine" in boot({"trust": named}, own={"trust": {"tool": "getMine"}}).tools


def test_a_class_in_a_plugin_finds_its_module(boot: Callable[..., Plugins]) -> None:
    with_class = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Kept:\n    a: int\n" + TRUST
    assert "getTrust" in boot({"kept": with_class}).tools


def test_each_load_makes_plugins_of_its_own(settings_of: Callable[..., Settings]) -> None:
    first, second = load_plugins(settings_of()), load_plugins(settings_of())
    assert first.sinks["memory"] is not second.sinks["memory"]


def test_a_folder_that_cannot_be_read_is_a_fault(settings_of: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "a_file").touch()
    with pytest.raises(ConfigurationRefused) as refused:
        load_plugins(settings_of(tmp_path / "a_file"), origin_of=lambda key: f"file:1 of {key}")
    (fault,) = refused.value.faults
    assert (fault.origin, fault.key) == ("file:1 of plugins.dirs", "plugins.dirs")
    assert "cannot be read: Not a directory" in fault.message
