"""The schema, the shipped defaults, the documentation and `.env.example` say the same."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
from marshmallow.fields import Nested

from paynow.resources import folder
from paynow.settings import Settings
from paynow.settings.fields import Key
from paynow.settings.load import load
from paynow.settings.schema import SCHEMA, TOOL_DEFAULTS, WEBHOOK_DEFAULTS, keys
from paynow.settings.secret import SECRETS

ROOT = Path(__file__).parents[2]
DOCUMENTATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
DEFAULTS = tomllib.loads((folder("config") / "default.toml").read_text(encoding="utf-8"))
KEYS = {".".join(path).replace("*", "NAME"): (path, key) for path, key in keys()}
ROWS = dict(re.findall(r"^\| `([a-z_]+\.[A-Za-z_.]+)` \| (.+) \|$", DOCUMENTATION, re.MULTILINE))
BLOCKS = re.findall(r"^```toml\n(.+?)^```$", DOCUMENTATION, re.MULTILINE | re.DOTALL)


def default(path: tuple[str, ...]) -> Any:
    if "*" in path:
        return {"agent": TOOL_DEFAULTS, "events": WEBHOOK_DEFAULTS}[path[0]][path[-1]]
    return reduce(getitem, path, DEFAULTS)


def leaves(table: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name)


@pytest.mark.parametrize("name", KEYS)
def test_every_key_is_documented_with_its_default_and_its_limits(name: str) -> None:
    path, key = KEYS[name]
    meaning, shown, limits = ROWS[name].rsplit(" | ", 2)
    assert len(meaning) > 10
    assert shown == f"`{json.dumps(default(path))}`"
    assert limits == key.expected


def test_no_key_is_documented_that_does_not_exist() -> None:
    assert list(ROWS) == list(KEYS)


def test_the_limits_of_a_tool_without_a_table_are_those_documented() -> None:
    written = [f"`{name} = {json.dumps(value)}`" for name, value in TOOL_DEFAULTS.items()]
    assert f"{', '.join(written[:-1])} and {written[-1]}" in DOCUMENTATION
    shipped = (folder("config") / "default.toml").read_text(encoding="utf-8")
    assert ", ".join(f"{name} = {json.dumps(value)}" for name, value in TOOL_DEFAULTS.items()) in shipped


def test_the_shipped_defaults_hold_every_key_and_no_other() -> None:
    shipped = set(leaves(DEFAULTS))
    tools = {path for path in shipped if path[:2] == ("agent", "tools")}
    assert shipped - tools == {path for path, _ in KEYS.values() if "*" not in path}
    assert tools == {("agent", "tools", name, key) for name in DEFAULTS["agent"]["tools"] for key in TOOL_DEFAULTS}


@pytest.mark.parametrize("name", [name for name in KEYS if "NAME" not in name])
def test_every_shipped_default_has_a_comment(name: str) -> None:
    shipped = (folder("config") / "default.toml").read_text(encoding="utf-8")
    section, _, key = name.rpartition(".")
    table = re.search(rf"^\[{re.escape(section)}\]\n(.*?)(?=^\[|\Z)", shipped, re.MULTILINE | re.DOTALL)
    assert table
    assert re.search(rf"^{key} = .+ # \S.+$|^# .+\n{key} = ", table[1], re.MULTILINE)


def test_every_field_of_the_settings_is_in_the_schema() -> None:
    sections = set(Settings.__dataclass_fields__) - {"secrets"}
    assert sections == set(SCHEMA.fields)
    renamed = {
        "events.keep_s": "events.keep",
        "reservations.ttl_s": "reservations.ttl",
        "policy_guard.window_s": "policy_guard.window",
        "policy_guard.roll_back_within_s": "policy_guard.roll_back_within",
    }
    for section in sections:
        assert_in_the_schema(getattr(load(None, {}).settings, section), section, SCHEMA.fields[section], renamed)


def assert_in_the_schema(model: Any, section: str, nested: Any, renamed: dict[str, str]) -> None:
    for field in model.__dataclass_fields__:
        name = renamed.get(f"{section}.{field}", f"{section}.{field}")
        found = nested.schema.fields[name.rpartition(".")[2]]
        if isinstance(found, Nested):
            assert_in_the_schema(getattr(model, field), f"{section}.{field}", found, renamed)


def test_every_kind_of_key_says_what_it_expects() -> None:
    assert all(isinstance(key, Key) and key.expected for _, key in KEYS.values())


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_is_documented_and_in_the_example(name: str) -> None:
    assert re.search(rf"^\| `{name}` \| .{{10,}} \|$", DOCUMENTATION, re.MULTILINE)
    assert re.search(rf"^{name}=$", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_example_sets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, {}, dotenv=ROOT / ".env.example") == load(None, {})


@pytest.mark.parametrize("block", BLOCKS)
def test_every_documented_example_loads(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paynow.toml").write_text(block, encoding="utf-8")
    load(tmp_path / "paynow.toml", {})


def test_the_documented_variables_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```sh\n(.+?)^```$", DOCUMENTATION, re.MULTILINE | re.DOTALL)
    (tmp_path / ".env").write_text(block, encoding="utf-8")
    settings = load(None, {}, dotenv=tmp_path / ".env").settings
    assert (settings.server.port, settings.agent.tools["getBalance"].attempts, settings.reservations.ttl_s) == (8081, 2, 43_200)


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 2
