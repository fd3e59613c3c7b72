"""Every test here runs in an empty folder, where `paynow.toml` and `.env` are written as the test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from paynow.errors import ConfigurationRefused
from paynow.settings.load import Loaded, load


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def loaded() -> Callable[..., Loaded]:
    """Loads a file of this text over the defaults, with these variables, this `.env` and these options."""

    def run(
        toml: str | None = None, environ: Mapping[str, str] | None = None, dotenv: str | None = None, options: Mapping[str, str] | None = None
    ) -> Loaded:
        if toml is not None:
            Path("paynow.toml").write_text(toml, encoding="utf-8")
        if dotenv is not None:
            Path(".env").write_text(dotenv, encoding="utf-8")
        return load(Path("paynow.toml") if toml is not None else None, environ or {}, dotenv=Path(".env"), options=options)

    return run


@pytest.fixture
def faults(loaded: Callable[..., Loaded]) -> Callable[..., list[str]]:
    """The same, for what is refused: the lines that a user sees."""

    def run(*args: object, **kwargs: object) -> list[str]:
        with pytest.raises(ConfigurationRefused) as refused:
            loaded(*args, **kwargs)
        return [str(fault) for fault in refused.value.faults]

    return run


@pytest.fixture
def origin_of(loaded: Callable[..., Loaded]) -> Callable[..., tuple[str, str]]:
    """How `config show` shows one key: its value and its origin."""

    def run(key: str, *args: object, **kwargs: object) -> tuple[str, str]:
        return next((value.shown, value.origin) for value in loaded(*args, **kwargs).values if value.key == key)

    return run
