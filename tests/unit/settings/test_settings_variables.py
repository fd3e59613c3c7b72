"""Settings in the environment and in `.env`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from paynow.settings.load import Loaded

Load = Callable[..., Loaded]
Faults = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PAYNOW_SERVER__PORT", "5", 5),
        ("PAYNOW_SERVER__HOST", "0.0.0.0", "0.0.0.0"),
        ("PAYNOW_SERVER__HOST", "10", "10"),
        ("PAYNOW_SERVER__SHUTDOWN_GRACE_S", "2.5", 2.5),
        ("PAYNOW_SERVER__SHUTDOWN_GRACE_S", "2", 2),
        ("PAYNOW_EVENTS__SINKS", "memory,log", ("memory", "log")),
        ("PAYNOW_EVENTS__SINKS", " memory , log ", ("memory", "log")),
        ("PAYNOW_EVENTS__SINKS", '["memory", "log"]', ("memory", "log")),
        ("PAYNOW_EVENTS__SINKS", "log", ("log",)),
        ("PAYNOW_EVENTS__SINKS", "[]", ()),
        ("PAYNOW_LOGGING__FORMAT", "console", "console"),
    ],
)
def test_a_variable_is_read_as_its_key_needs_it(name: str, text: str, value: Any, loaded: Load) -> None:
    section, key = name.removeprefix("PAYNOW_").lower().split("__")
    assert getattr(getattr(loaded(environ={name: text}).settings, section), key) == value


def test_names_of_tools_are_matched_whatever_their_capitals(loaded: Load) -> None:
    environ = {"PAYNOW_AGENT__TOOLS__GETBALANCE__ATTEMPTS": "1", "PAYNOW_AGENT__TOOLS__getRiskSignals__ATTEMPTS": "2"}
    tools = loaded(environ=environ).settings.agent.tools
    assert (tools["getBalance"].attempts, tools["getRiskSignals"].attempts) == (1, 2)


def test_a_tool_can_be_planned_and_limited_by_variables_alone(loaded: Load) -> None:
    environ = {"PAYNOW_AGENT__PLAN": "getBalance,myTool", "PAYNOW_AGENT__TOOLS__MYTOOL__TIMEOUT_MS": "9"}
    assert loaded(environ=environ).settings.agent.tools["myTool"].timeout_ms == 9


def test_dotenv_may_limit_a_tool_that_the_environment_plans(loaded: Load) -> None:
    settings = loaded(environ={"PAYNOW_AGENT__PLAN": "myTool"}, dotenv="PAYNOW_AGENT__TOOLS__MYTOOL__ATTEMPTS=7").settings
    assert settings.agent.tools["myTool"].attempts == 7


def test_names_without_two_underscores_and_other_names_are_no_settings(loaded: Load) -> None:
    environ = {"PAYNOW_TEST_SERVICES": "required", "PAYNOW_SERVER_PORT": "x", "SERVER__PORT": "x", "HOME": "/"}
    assert loaded(environ=environ).settings == loaded().settings


def test_an_empty_variable_is_not_set(loaded: Load) -> None:
    assert loaded(environ={"PAYNOW_SERVER__PORT": ""}, dotenv="PAYNOW_SERVER__PORT=7").settings.server.port == 7


def test_nothing_is_interpolated_in_dotenv(loaded: Load) -> None:
    assert loaded(dotenv="HOST=canary\nAPI_KEY=a${HOST}b").settings.secrets.api_key == "a${HOST}b"


def test_dotenv_may_quote_and_export(loaded: Load) -> None:
    settings = loaded(dotenv="# a comment\nexport PAYNOW_SERVER__PORT='81'\nPAYNOW_SERVER__HOST=\"::1\" # why\n").settings
    assert (settings.server.port, settings.server.host) == (81, "::1")


@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        (
            {"PAYNOW_AGENT__DEADLINE": "5"},
            "environment PAYNOW_AGENT__DEADLINE: agent.deadline: unknown key; did you mean deadline_ms?",
        ),
        ({"PAYNOW_AGNET__PLAN": "a"}, "environment PAYNOW_AGNET__PLAN: agnet: unknown section; did you mean agent?"),
        ({"PAYNOW_SERVER__PORT": "x"}, "environment PAYNOW_SERVER__PORT: server.port: expected a whole number from 0 to 65535"),
        ({"PAYNOW_SERVER__PORT": "1\nhost = 2"}, "environment PAYNOW_SERVER__PORT: server.port: expected a whole number from 0 to 65535"),
        ({"PAYNOW_SERVER__": "1"}, "environment PAYNOW_SERVER__: PAYNOW_SERVER__: expected PAYNOW_<SECTION>__<KEY>"),
        ({"PAYNOW___PORT": "1"}, "environment PAYNOW___PORT: PAYNOW___PORT: expected PAYNOW_<SECTION>__<KEY>"),
        ({"PAYNOW_AGENT__TOOLS": "1"}, "environment PAYNOW_AGENT__TOOLS: agent.tools: expected a table"),
        (
            {"PAYNOW_SERVER__PORT": "1", "PAYNOW_SERVER__PORT__X": "1"},
            "environment PAYNOW_SERVER__PORT__X: server.port.x: is set at the same time by environment PAYNOW_SERVER__PORT",
        ),
        (
            {"PAYNOW_SERVER__PORT": "1", "PAYNOW_server__port": "2"},
            "environment PAYNOW_server__port: server.port: is set at the same time by environment PAYNOW_SERVER__PORT",
        ),
        (
            {"PAYNOW_AGENT__TOOLS__GETBALNCE__ATTEMPTS": "1"},
            "environment PAYNOW_AGENT__TOOLS__GETBALNCE__ATTEMPTS: agent.tools.getbalnce: the tool is in no plan; did you mean getBalance?",
        ),
        (
            {"PAYNOW_AGENT__TOOLS__GETBALANCE__ATTEMPTS": "11"},
            "environment PAYNOW_AGENT__TOOLS__GETBALANCE__ATTEMPTS: agent.tools.getBalance.attempts: expected a whole number from 1 to 10",
        ),
    ],
)
def test_a_variable_that_is_wrong_is_named(environ: dict[str, str], fault: str, faults: Faults) -> None:
    assert faults(environ=environ) == [fault]


def test_a_fault_in_dotenv_has_its_line(faults: Faults) -> None:
    assert faults(dotenv="# one\n\nPAYNOW_SERVER__PORT=x\n\nthis is not\nAPI_KEY='open\n") == [
        ".env:5: expected NAME=value",
        ".env:6: expected NAME=value",
        ".env:3: server.port: expected a whole number from 0 to 65535",
    ]


def test_an_option_that_is_wrong_is_named(faults: Faults) -> None:
    assert faults(options={"server.port": "x"}) == ["option --port: server.port: expected a whole number from 0 to 65535"]
