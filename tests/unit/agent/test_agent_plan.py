"""The plan out of the configuration, and what stops the boot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from agent_doubles import SETTINGS, TOOL_SETTINGS, read_tool, says_fine, write_tool

from paynow.agent import PlannedTool, make_plan
from paynow.errors import ConfigurationRefused

BALANCE, RISK, CASE = read_tool(says_fine, "getBalance"), read_tool(says_fine, "getRiskSignals"), write_tool(says_fine, "createCase")
TOOLS = {tool.name: tool for tool in (BALANCE, RISK, CASE)}


def settings(plan: tuple[str, ...], on_review: tuple[str, ...]):
    tools = {name: replace(TOOL_SETTINGS, attempts=index) for index, name in enumerate((*plan, *on_review), 1)}
    return replace(SETTINGS, plan=plan, on_review=on_review, tools=tools)


def test_a_plan_is_the_named_tools_in_their_order_each_with_its_limits():
    plan = make_plan(settings(("getRiskSignals", "getBalance"), ("createCase",)), TOOLS)
    assert plan.gather == (PlannedTool(RISK, replace(TOOL_SETTINGS, attempts=1)), PlannedTool(BALANCE, replace(TOOL_SETTINGS, attempts=2)))
    assert plan.on_review == (PlannedTool(CASE, replace(TOOL_SETTINGS, attempts=3)),)


def test_all_faults_are_named_at_once_with_their_origin_and_the_nearest_name():
    asked = settings(("getBalence", "createCase", "elsewhere"), ("getRiskSignals",))
    with pytest.raises(ConfigurationRefused) as refused:
        make_plan(asked, TOOLS, origin_of={"agent.plan": "paynow.toml:7", "agent.on_review": "PAYNOW_AGENT__ON_REVIEW"}.__getitem__)
    assert [str(fault) for fault in refused.value.faults] == [
        "paynow.toml:7: agent.plan: no enabled plugin registers a tool getBalence; did you mean getBalance?",
        "paynow.toml:7: agent.plan: createCase is a WRITE tool; only READ tools may stand here",
        "paynow.toml:7: agent.plan: no enabled plugin registers a tool elsewhere; known here: createCase, getBalance, getRiskSignals",
        "PAYNOW_AGENT__ON_REVIEW: agent.on_review: getRiskSignals is a READ tool; only WRITE tools may stand here",
    ]


def test_without_any_plugin_the_fault_says_so():
    with pytest.raises(ConfigurationRefused, match="known here: none"):
        make_plan(settings(("getBalance",), ()), {})
