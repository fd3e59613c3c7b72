"""A running service per module for tests that share one, on a database of the module's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg2.extensions import make_dsn

from database import execute
from service import UNLIMITED, RunningService, running


@pytest.fixture
def service(database: str, tmp_path: Path) -> Iterator[RunningService]:
    """A service without a customers' limit."""
    with running(database, tmp_path, UNLIMITED) as started:
        yield started


@pytest.fixture(scope="module")
def module_environ() -> dict[str, str]:
    """What else a module wants in its service's environment."""
    return {}


@pytest.fixture(scope="module")
def module_database(postgres_server, template_database: str, database_numbers: Iterator[int]) -> Iterator[str]:
    """One database for all tests of a module."""
    name = f"test_{next(database_numbers)}"
    execute(postgres_server.dsn, f"create database {name} template {template_database}")
    yield make_dsn(postgres_server.dsn, dbname=name)
    execute(postgres_server.dsn, f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def module_service(module_database: str, tmp_path_factory: pytest.TempPathFactory, module_environ: dict[str, str]) -> Iterator[RunningService]:
    """One service for all tests of a module, which use customers of their own."""
    with running(module_database, tmp_path_factory.mktemp("service"), {**UNLIMITED, **module_environ}) as started:
        yield started


@pytest.fixture
def plugin_service(database: str, tmp_path: Path) -> Iterator[Callable[..., RunningService]]:
    """Starts services with plugins of the test's own: `start({"name": "source"}, config_text, environ)`."""
    started: list[RunningService] = []

    def start(plugins: dict[str, str], config: str, environ: dict[str, str] | None = None) -> RunningService:
        folder = tmp_path / "plugins"
        folder.mkdir(exist_ok=True)
        for name, source in plugins.items():
            (folder / f"{name}.py").write_text(source)
        file = tmp_path / "paynow.toml"
        file.write_text(config)
        service = RunningService(database, tmp_path, {**UNLIMITED, **(environ or {})}, arguments=("--config", str(file)))
        started.append(service)
        return service

    yield start
    for service in started:
        assert service.stop() == 0, "\n".join(service.log[-20:])
