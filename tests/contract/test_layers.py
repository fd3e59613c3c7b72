"""Imports point down, and what is foreign is known in one room only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "paynow").rglob("*.py"))

LAYERS = (
    {"clock", "errors", "ids", "limits", "money", "resources", "api_keys"},
    {"settings"},
    {"plugin_api"},
    {"plugin_checks", "plugin_redis"},
    {"plugin_sources"},
    {"plugin_loader"},
    {"plugin_testing"},
    {"observability", "limit_share", "limit_watch", "turns"},
    {"store"},
    {"events"},
    {"policy"},
    {"agent"},
    {"payments", "cases"},
    {"backtest", "explain"},
    {"shadow"},
    {"http"},
    {"app", "workers"},
    {"cli"},
    {"__main__"},
)
"""The rooms of PayNow, the ground first. A room imports from rooms before it, never from one after it."""

RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
FOREIGN = {
    "aiopg": {"store"},
    "psycopg2": {"store"},
    "aiohttp.web": {"http"},
    "prometheus_client": {"observability"},
    "joserfc": {"http"},
    "redis": {"plugin_redis"},
    "opentelemetry": {"observability"},
    "marshmallow": {"http", "settings"},
}
"""Packages with the rooms that may know them."""


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "paynow").with_suffix("").parts[0]


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Every import with its line, those for type checkers and those inside functions too: `from a import b` is `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def faults_of(source: str, room: str) -> list[str]:
    found = []
    for line, name in imported(source):
        first, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if first == "paynow" and RANK.get(other, -1) > RANK[room]:
            found.append(f"{line}: {room} imports {other}, which lies above it")
        for package, rooms in FOREIGN.items():
            if f"{name}.".startswith(f"{package}.") and room not in rooms:
                found.append(f"{line}: {package} is for {', '.join(sorted(rooms))} only")
    return found


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.name != "__init__.py" or path.parent.name != "paynow"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_point_down(path: Path) -> None:
    assert faults_of(path.read_text(encoding="utf-8"), room_of(path)) == []


def test_every_room_has_its_layer() -> None:
    assert {room_of(path) for path in SOURCES} - {"__init__"} == set(RANK)


@pytest.mark.parametrize(
    ("source", "room"),
    [
        ("from paynow.http import body", "payments"),
        ("def f():\n    import paynow.app", "store"),
        ("from paynow import cli", "app"),
        ("import psycopg2.errors", "payments"),
        ("from aiohttp import web", "agent"),
    ],
)
def test_the_rule_sees_an_import_wherever_it_stands(source: str, room: str) -> None:
    assert len(faults_of(source, room)) == 1
