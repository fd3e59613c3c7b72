"""Plugins that come as installed packages: found by their entry points, held to the same rules as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paynow.errors import ConfigurationRefused
from paynow.plugin_loader import load_plugins
from paynow.settings import Settings

MODULE = """
from paynow.plugin_api import Effect, Tool, flag, hookimpl

async def call(context):
    return {"listed": False}

@hookimpl
def paynow_register_tools(settings):
    return [Tool("getSanctions", Effect.READ, {"listed": flag()}, call)]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a package with one module and one entry point on the path, as pip would."""

    def run(package: str, plugin: str, text: str = MODULE) -> None:
        site = tmp_path / f"site-{package}"
        info = site / f"{package}-1.2.dist-info"
        info.mkdir(parents=True)
        (site / f"{package}_module.py").write_text(text, encoding="utf-8")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[paynow]\n{plugin} = {package}_module\n", encoding="utf-8")
        monkeypatch.syspath_prepend(site)

    return run


def test_a_package_is_loaded_when_its_entry_point_is_enabled(install: Callable[..., None], settings_of: Callable[..., Settings]) -> None:
    install("acme", "sanctions")
    plugins = load_plugins(settings_of(enabled=("sanctions",)))
    assert "getSanctions" in plugins.tools
    assert next(plugin.source for plugin in plugins.loaded if plugin.name == "sanctions") == "package acme==1.2"


def test_a_package_is_not_imported_unless_it_is_enabled(install: Callable[..., None], settings_of: Callable[..., Settings]) -> None:
    install("loud", "shouter", "raise SystemExit('imported')")
    assert "shouter" not in {plugin.name for plugin in load_plugins(settings_of()).loaded}


def test_a_package_that_fails_names_itself(install: Callable[..., None], settings_of: Callable[..., Settings]) -> None:
    install("broken", "breaker", "raise SystemExit('no licence')")
    with pytest.raises(ConfigurationRefused) as refused:
        load_plugins(settings_of(enabled=("breaker",)))
    assert str(refused.value) == "package broken==1.2: plugin breaker: cannot be loaded: SystemExit: no licence"


def test_two_packages_with_one_plugin_name_are_refused(install: Callable[..., None], settings_of: Callable[..., Settings]) -> None:
    install("left", "same")
    install("right", "same")
    with pytest.raises(ConfigurationRefused) as refused:
        load_plugins(settings_of(enabled=("same",)))
    assert "more than one place: package left==1.2 and package right==1.2" in str(refused.value)


def test_a_package_and_a_file_with_one_name_are_refused(
    install: Callable[..., None], folder_of: Callable[..., Path], settings_of: Callable[..., Settings]
) -> None:
    install("acme", "both")
    with pytest.raises(ConfigurationRefused) as refused:
        load_plugins(settings_of(folder_of({"both": MODULE}), enabled=("both",)))
    assert "both.py and package acme==1.2" in str(refused.value)


def test_an_entry_point_that_leads_nowhere_is_a_fault(install: Callable[..., None], settings_of: Callable[..., Settings]) -> None:
    install("gone", "lost = missing_module:thing\nother")
    with pytest.raises(ConfigurationRefused) as refused:
        load_plugins(settings_of(enabled=("lost",)))
    assert "plugin lost: cannot be loaded: ModuleNotFoundError" in str(refused.value)
