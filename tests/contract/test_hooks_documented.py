"""Every hook is documented with its exact signature and exercised by a test, and what docs/plugins.md shows can be pasted and works."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from paynow.app import check
from paynow.plugin_api import Effect, Field, Hooks, Tool, ToolContext
from paynow.plugin_loader import HOOKS
from paynow.plugin_testing import load_plugin
from paynow.settings.load import load

ROOT = Path(__file__).parents[2]
DOCUMENTATION = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
TESTS = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.+?)^```$", DOCUMENTATION, re.MULTILINE | re.DOTALL)


PLUGINS = [block for block in blocks("python") if "@hookimpl" in block]


def signature(hook: str) -> str:
    parameters = inspect.signature(getattr(Hooks, hook)).parameters.values()
    told = ", ".join(f"{one.name}: {one.annotation}" for one in parameters if one.name != "self")
    return f"{hook}({told}) -> {inspect.signature(getattr(Hooks, hook)).return_annotation}"


def test_there_are_hooks() -> None:
    assert len(HOOKS) == 8


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_exact_signature(hook: str) -> None:
    assert f"```\n{signature(hook)}\n```\n" in DOCUMENTATION


def test_no_hook_is_documented_that_does_not_exist() -> None:
    shown = re.findall(r"^```\n(paynow_\w+)\(", DOCUMENTATION, re.MULTILINE)
    assert shown == list(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_says_when_it_is_called(hook: str) -> None:
    assert re.match(r"(Called once at boot|Observes: )", getattr(Hooks, hook).__doc__)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_exercised_by_a_test(hook: str) -> None:
    implemented = re.compile(rf"def {hook}\(|\.{hook}\(")
    assert any(implemented.search(path.read_text(encoding="utf-8")) for path in TESTS)


@pytest.mark.parametrize("name", list(ToolContext.__dataclass_fields__))
def test_everything_in_a_tools_context_is_documented(name: str) -> None:
    (table,) = re.findall(r"^### The context$(.+?)^###", DOCUMENTATION, re.MULTILINE | re.DOTALL)
    assert re.search(rf"^\|.*`{name}\b.*\|.*\|$", table, re.MULTILINE)


@pytest.mark.parametrize("name", list(Tool.__dataclass_fields__))
def test_everything_that_a_tool_declares_is_documented(name: str) -> None:
    assert re.search(rf"^\| `{name}` \| .{{10,}} \|$", DOCUMENTATION, re.MULTILINE)


@pytest.mark.parametrize("number", range(len(PLUGINS)))
def test_every_plugin_in_the_documentation_loads(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shown.py").write_text(PLUGINS[number], encoding="utf-8")
    loaded = {plugin.name: plugin for plugin in load_plugin(tmp_path / "shown.py").loaded}
    assert loaded["shown"].hooks


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if not hook.startswith("paynow_tool_")])
def test_every_hook_but_those_that_watch_single_calls_is_shown_in_a_plugin(hook: str) -> None:
    assert any(f"def {hook}(" in plugin for plugin in PLUGINS)


def test_the_tool_in_five_minutes_boots_as_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paste(tmp_path)
    assembly = check(load(tmp_path / "paynow.toml", {"LOG_HASH_KEY": "the-hash-key-of-the-tests"}))
    assert [planned.tool.name for planned in assembly.plan.gather] == ["getBalance", "getRiskSignals", "getExposure"]
    assert "getExposure" in assembly.policy.tools_read


def test_the_test_in_the_documentation_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paste(tmp_path)
    (shown,) = [block for block in blocks("python") if "def test_" in block]
    names: dict[str, object] = {}
    exec(compile(shown, "docs/plugins.md", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()  # type: ignore[operator]


def test_the_fields_of_the_documentation_are_those_there_are() -> None:
    shown = re.findall(r"^\| `(\w+)\(", DOCUMENTATION, re.MULTILINE)
    assert shown == ["whole", "real", "flag", "choice", "text"]
    assert set(Field.__dataclass_fields__) == {"kind", "minimum", "maximum", "choices", "length_max", "doc"}
    assert list(Effect) == ["read", "write"]


def paste(folder: Path) -> None:
    """The first plugin, the configuration and the policy, into the files that the documentation names."""
    configuration, policy = blocks("toml")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "get_exposure.py").write_text(PLUGINS[0], encoding="utf-8")
    (folder / "paynow.toml").write_text(configuration, encoding="utf-8")
    (folder / "policy.toml").write_text(policy, encoding="utf-8")
