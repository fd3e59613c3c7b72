"""Plugins written as text by each test, loaded as a boot loads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paynow.errors import ConfigurationRefused
from paynow.plugin_loader import Plugins, load_plugins
from paynow.settings import Settings
from paynow.settings.load import load


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of plugin files."""

    def write(files: Mapping[str, str], name: str = "mine") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file, text in files.items():
            (folder / f"{file}.py").write_text(text, encoding="utf-8")
        return folder

    return write


@pytest.fixture
def settings_of(here: Path) -> Callable[..., Settings]:
    """The shipped configuration with other plugins."""

    def make(
        *dirs: Path,
        enabled: tuple[str, ...] = (),
        own: Mapping[str, Mapping[str, Any]] | None = None,
        sinks: tuple[str, ...] = ("memory",),
        backend: str = "postgres",
    ) -> Settings:
        settings = load(None, {}).settings
        return replace(
            settings,
            plugins=replace(settings.plugins, dirs=dirs, enabled=enabled, settings=own or {}),
            events=replace(settings.events, sinks=sinks, memory_last=3, poll_ms=200),
            rate_limit=replace(settings.rate_limit, backend=backend, customer=None),
        )

    return make


@pytest.fixture
def boot(folder_of: Callable[..., Path], settings_of: Callable[..., Settings]) -> Callable[..., Plugins]:
    """Loads these files, all of them enabled."""

    def run(files: Mapping[str, str], **changes: Any) -> Plugins:
        return load_plugins(settings_of(folder_of(files), **{"enabled": tuple(files), **changes}))

    return run


@pytest.fixture
def refusals(boot: Callable[..., Plugins], tmp_path: Path) -> Callable[..., list[str]]:
    """The same, for what is refused: the lines that a user sees, with the folder's path left out."""

    def run(files: Mapping[str, str], **changes: Any) -> list[str]:
        with pytest.raises(ConfigurationRefused) as refused:
            boot(files, **changes)
        return [str(fault).replace(f"{tmp_path.resolve()}/mine/", "") for fault in refused.value.faults]

    return run
