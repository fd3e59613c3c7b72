"""What is wrong with a plugin stops the boot, with the plugin's name, the place and the reason; all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paynow.errors import ConfigurationRefused
from paynow.plugin_api import Effect, Field, Tool, flag
from paynow.plugin_checks import faults_of_tool
from paynow.plugin_loader import load_plugins
from paynow.settings import Settings

HEAD = """
from paynow.plugin_api import *
from paynow.plugin_api import hookimpl

async def call(context):
    return {}

def plain(context):
    return {}

class Sink:
    name = "mine"
    async def deliver(self, events): ...
    async def close(self): ...

@hookimpl
"""


def tools(expression: str) -> str:
    return f"{HEAD}def paynow_register_tools(settings):\n    return {expression}\n"


def sinks(expression: str) -> str:
    return f"{HEAD}def paynow_register_event_sinks(settings):\n    return {expression}\n"


def limiters(expression: str) -> str:
    return f"{HEAD}def paynow_register_rate_limiters(settings):\n    return {expression}\n"


def hook(text: str) -> str:
    return HEAD + text + "\n"


BROKEN = {
    "a file that is no Python": ("def (", "bad.py:1: plugin bad: cannot be loaded: SyntaxError: invalid syntax"),
    "an import that fails": (
        "\nimport no_such_module",
        "bad.py:2: plugin bad: cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "a file that raises": ("x = 1\nx = 1 / 0", "bad.py:2: plugin bad: cannot be loaded: ZeroDivisionError: division by zero"),
    "a file that exits": ("raise SystemExit(3)", "bad.py:1: plugin bad: cannot be loaded: SystemExit: 3"),
    "a hook with an argument that it is not told": (hook("def paynow_register_tools(settings, database): ..."), "Argument(s) {'database'}"),
    "a hook that is misspelt": (
        hook("def paynow_register_tool(settings): ..."),
        "there is no hook paynow_register_tool; did you mean paynow_register_tools?",
    ),
    "a hook without its mark": ("def paynow_register_tools(settings): ...", "paynow_register_tools is not marked with @hookimpl"),
    "no hook at all": ("x = 1", "implements no hook, so it would do nothing"),
    "a hook that is async": (hook("async def paynow_register_tools(settings): ..."), "paynow_register_tools must be a plain function"),
    "an observing hook that is async": (hook("async def paynow_payment_decided(decision): ..."), "paynow_payment_decided must be a plain function"),
    "an observing hook that yields": (
        hook("async def paynow_payment_decided(decision): yield"),
        "paynow_payment_decided must be a plain function",
    ),
    "a function of its own that raises deep down": (
        "def deep():\n    return 1 / 0\n\nx = deep()",
        "bad.py:2: plugin bad: cannot be loaded: ZeroDivisionError",
    ),
    "a choice that is no text": (tools('[Tool("getX", Effect.READ, {"a": choice(1, 2)}, call)]'), "the choices must be texts, each once"),
    "a hook with a default": (
        hook("def paynow_register_tools(settings=None): ..."),
        "paynow_register_tools: arguments with a default are never passed",
    ),
    "a wrapper": (
        hook("def paynow_sensitive_fields(): return []").replace("@hookimpl", "@hookimpl(hookwrapper=True)").replace("return []", "yield"),
        "paynow_sensitive_fields: wrappers are not called",
    ),
    "a hook that raises": (tools("1 / 0"), "paynow_register_tools failed: ZeroDivisionError: division by zero"),
    "a hook that exits": (tools("exit(4)"), "paynow_register_tools failed: SystemExit: 4"),
    "a hook that returns nothing": (tools("None"), "paynow_register_tools must return a list, not NoneType"),
    "a hook that returns one thing": (tools('Tool("getX", Effect.READ, {}, call)'), "paynow_register_tools must return a list, not Tool"),
    "a hook that returns a generator": (tools("(x for x in [])"), "paynow_register_tools must return a list, not generator"),
    "something that is no tool": (tools("[call]"), "registers function where a Tool is expected"),
    "a tool with a capital": (tools('[Tool("GetX", Effect.READ, {}, call)]'), "tool 'GetX': a tool's name is a small letter"),
    "a tool with an underscore": (tools('[Tool("get_x", Effect.READ, {}, call)]'), "tool 'get_x': a tool's name"),
    "a tool with a long name": (tools('[Tool("g" * 65, Effect.READ, {}, call)]'), "a tool's name is"),
    "a tool named like the payment": (tools('[Tool("payment", Effect.READ, {}, call)]'), "no word that rules use themselves"),
    "a tool named like a keyword of rules": (tools('[Tool("in", Effect.READ, {}, call)]'), "no word that rules use themselves"),
    "an effect that is none": (tools('[Tool("getX", "read", {}, call)]'), "tool `getX`: the effect must be Effect.READ or Effect.WRITE"),
    "outside without writing": (tools('[Tool("getX", Effect.READ, {}, call, outside=True)]'), "tool `getX`: outside=True is for WRITE tools"),
    "a call that is none": (tools('[Tool("getX", Effect.READ, {}, None)]'), "tool `getX`: `call` must be a function"),
    "a call without a context": (tools('[Tool("getX", Effect.READ, {}, lambda: 1, blocking=True)]'), "`call` must take the context and nothing else"),
    "a plain call that is not blocking": (tools('[Tool("getX", Effect.READ, {}, plain)]'), "a plain one needs blocking=True"),
    "an async call that is blocking": (
        tools('[Tool("getX", Effect.READ, {}, call, blocking=True)]'),
        "`call` must be a plain function, not an async one",
    ),
    "an output that is no dict": (tools('[Tool("getX", Effect.READ, ["a"], call)]'), "tool `getX`: the output must be a dict"),
    "a field that is none": (tools('[Tool("getX", Effect.READ, {"a": int}, call)]'), "output 'a': must be described by whole()"),
    "a field with a capital": (tools('[Tool("getX", Effect.READ, {"aB": flag()}, call)]'), "output 'aB': a field's name is"),
    "a field that is a keyword of rules": (tools('[Tool("getX", Effect.READ, {"in": flag()}, call)]'), "output 'in': a field's name is"),
    "a field of another kind": (
        tools('[Tool("getX", Effect.READ, {"a": Field(list)}, call)]'),
        "output 'a': the kind must be int, float, bool or str",
    ),
    "bounds the wrong way round": (
        tools('[Tool("getX", Effect.READ, {"a": whole(minimum=2, maximum=1)}, call)]'),
        "the minimum is above the maximum",
    ),
    "a choice that stands twice": (tools('[Tool("getX", Effect.READ, {"a": choice("x", "x")}, call)]'), "the choices must be texts, each once"),
    "a sink without a name": (sinks("[object()]"), "registers object as an event sink, but its `name`"),
    "a sink that delivers plainly": (
        sinks("[type('S', (Sink,), {'deliver': lambda self, events: None})()]"),
        "event sink `mine`: `deliver` must be an async",
    ),
    "a sink that cannot close": (sinks("[type('S', (Sink,), {'close': None})()]"), "event sink `mine`: `close` must be an async function"),
    "a limiter that is no maker": (limiters("[object()]"), "registers object where a RateLimiterMaker is expected"),
    "a limiter with a bad name": (limiters('[RateLimiterMaker("My-Own", plain, True)]'), "rate limiter 'My-Own': the name must be"),
    "a limiter that cannot be made": (limiters('[RateLimiterMaker("own", None, True)]'), "rate limiter `own`: `make` must be a function"),
    "a sensitive field that is no name": (hook('def paynow_sensitive_fields(): return ["Device Id"]'), "sensitive field 'Device Id'"),
    "sensitive fields as one text": (
        hook('def paynow_sensitive_fields(): return "device_id"'),
        "paynow_sensitive_fields must return a list, not str",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin_is_refused_with_its_name_and_the_reason(what: str, refusals: Callable[..., list[str]]) -> None:
    text, reason = BROKEN[what]
    (line,) = refusals({"bad": text})
    assert line.startswith("bad.py")
    assert ": plugin bad: " in line
    assert reason in line


def test_all_faults_of_all_plugins_come_at_once(refusals: Callable[..., list[str]]) -> None:
    lines = refusals({"one": "1 / 0", "two": tools('[Tool("GetX", Effect.READ, {}, call), Tool("getY", "read", {"B": int}, plain)]')})
    assert [line.split(": ")[1] for line in lines] == ["plugin one"] + ["plugin two"] * 5


def test_a_file_that_failed_leaves_no_module_behind(refusals: Callable[..., list[str]]) -> None:
    import sys

    refusals({"half_done": "1 / 0"})
    assert "paynow_plugin_half_done" not in sys.modules


def test_an_interruption_by_the_operator_is_no_fault_of_the_plugin(boot: Callable[..., object]) -> None:
    with pytest.raises(KeyboardInterrupt):
        boot({"slow": "raise KeyboardInterrupt"})


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda name: tools(f'[Tool("{name}", Effect.READ, {{}}, call)]'), "tool"),
        (lambda name: sinks(f"[type('S', (Sink,), {{'name': '{name}'}})()]"), "event sink"),
        (lambda name: limiters(f'[RateLimiterMaker("{name}", plain, True)]'), "rate limiter"),
    ],
)
def test_a_name_that_two_plugins_register_names_both(make: Callable[[str], str], word: str, refusals: Callable[..., list[str]]) -> None:
    (line,) = refusals({"one": make("same"), "two": make("same")})
    assert line == f"two.py: plugin two: registers the {word} `same`, which plugin `one` registers too; rename one"


def test_a_plugin_cannot_take_the_place_of_a_built_in_sink(refusals: Callable[..., list[str]]) -> None:
    (line,) = refusals({"another": sinks("[type('S', (Sink,), {'name': 'memory'})()]")})
    assert "registers the event sink `memory`, which plugin `another` registers too" in line


def test_an_unknown_plugin_is_refused_with_the_nearest_name(refusals: Callable[..., list[str]]) -> None:
    (line,) = refusals({}, enabled=("get_balanse",))
    assert line == "configuration: plugins.enabled: there is no plugin `get_balanse`; did you mean get_balance?"


def test_a_plugin_that_lies_in_two_folders_is_refused_and_not_run(folder_of: Callable[..., Path], settings_of: Callable[..., Settings]) -> None:
    first, second = folder_of({"same": "1 / 0"}, "first"), folder_of({"same": "1 / 0"}, "second")
    with pytest.raises(ConfigurationRefused) as refused:
        load_plugins(settings_of(first, second, enabled=("same",)))
    (fault,) = refused.value.faults
    assert fault.message == f"plugin `same` lies in more than one place: {first / 'same.py'} and {second / 'same.py'}; rename one"


def test_a_file_does_not_shadow_a_built_in_plugin_of_its_name(refusals: Callable[..., list[str]]) -> None:
    (line,) = refusals({"get_balance": tools("[]")})
    assert "plugin `get_balance` lies in more than one place: get_balance.py and " in line


def test_a_sink_that_nobody_registers_is_refused_with_those_there_are(refusals: Callable[..., list[str]]) -> None:
    (line,) = refusals({}, sinks=("memory", "carrier_pigeon"))
    assert line == "configuration: events.sinks: no enabled plugin registers the event sink `carrier_pigeon`; known here: memory"


def test_a_limiter_that_nobody_registers_is_refused(refusals: Callable[..., list[str]]) -> None:
    (line,) = refusals({"own": limiters('[RateLimiterMaker("postgre", plain, True)]')}, backend="postgres_")
    assert line == "configuration: rate_limit.backend: no enabled plugin registers the rate limiter `postgres_`; did you mean postgre?"


def test_settings_for_a_plugin_that_is_not_enabled_are_refused(refusals: Callable[..., list[str]]) -> None:
    (line,) = refusals({}, own={"sink_memroy": {"a": 1}})
    assert line == "configuration: plugins.settings.sink_memroy: the plugin is not enabled; did you mean sink_memory?"


def test_a_call_that_is_an_object_may_be_async() -> None:
    class Call:
        async def __call__(self, context: object) -> dict[str, bool]:
            return {"a": True}

    assert list(faults_of_tool(Tool("getX", Effect.READ, {"a": flag()}, Call()))) == []


def test_an_optional_hook_of_a_later_version_is_no_fault(boot: Callable[..., object]) -> None:
    later = tools("[]") + "\n@hookimpl(optionalhook=True)\ndef paynow_of_the_future(): ...\n"
    boot({"ahead": later})


def test_a_field_made_by_hand_is_as_good_as_the_shorthand() -> None:
    async def call(context: object) -> dict[str, int]:
        return {"a": 1}

    assert list(faults_of_tool(Tool("getX", Effect.READ, {"a": Field(int)}, call))) == []
