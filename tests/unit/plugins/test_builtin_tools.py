"""The built-in tools say what the store tells, in the fields that the default policy is written in."""

from __future__ import annotations

import ast
from pathlib import Path
from uuid import UUID

import pytest

from paynow.plugin_api import Balance, Effect, Tool, Verdict
from paynow.plugin_testing import (
    AccountsInMemory,
    ActivityInMemory,
    CasesInMemory,
    a_payment,
    an_activity,
    call_tool,
    context_for,
    load_plugin,
)
from paynow.resources import folder

BUILT_IN = sorted(folder("plugins").glob("*.py"))
SIGNALS = [
    *("attempts_1m", "attempts_1h", "attempts_24h", "attempted_minor_1m", "attempted_minor_1h", "attempted_minor_24h"),
    *("allowed_minor_1m", "allowed_minor_1h", "allowed_minor_24h", "allowed_count", "allowed_mean_minor", "amount_to_mean"),
    *("payee_known", "payee_list", "customer_list"),
]


def tool(plugin: str, name: str) -> Tool:
    return load_plugin(folder("plugins") / f"{plugin}.py").tools[name]


@pytest.mark.parametrize("path", BUILT_IN, ids=lambda path: path.stem)
def test_built_in_plugins_use_nothing_of_paynow_but_the_plugin_api(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {name for name in imported if name.split(".")[0] == "paynow"} == {"paynow.plugin_api"}


@pytest.mark.parametrize(("plugin", "name"), [("get_balance", "getBalance"), ("get_risk_signals", "getRiskSignals"), ("create_case", "createCase")])
def test_every_field_of_a_built_in_tool_is_explained(plugin: str, name: str) -> None:
    assert all(len(field.doc) > 10 for field in tool(plugin, name).output.values())
    assert tool(plugin, name).doc


def test_get_balance_says_what_is_available_and_what_is_reserved() -> None:
    accounts = AccountsInMemory({("c_123", "USD"): Balance(10_000, 2_500), ("c_123", "EUR"): Balance(1, 1)})
    output = call_tool(tool("get_balance", "getBalance"), context_for(a_payment(), accounts=accounts))
    assert output == {"available_minor": 10_000, "reserved_minor": 2_500}
    euros = context_for(a_payment(currency="EUR"), accounts=accounts)
    assert call_tool(tool("get_balance", "getBalance"), euros) == {"available_minor": 1, "reserved_minor": 1}


def test_get_balance_says_zero_where_there_is_no_account() -> None:
    assert call_tool(tool("get_balance", "getBalance"), context_for(a_payment())) == {"available_minor": 0, "reserved_minor": 0}


def test_get_risk_signals_has_exactly_its_documented_fields() -> None:
    assert list(tool("get_risk_signals", "getRiskSignals").output) == SIGNALS


def test_get_risk_signals_of_a_first_payment() -> None:
    output = call_tool(tool("get_risk_signals", "getRiskSignals"), context_for(a_payment(amount_minor=700)))
    expected = dict.fromkeys(SIGNALS, 0) | dict.fromkeys(SIGNALS[:3], 1) | dict.fromkeys(SIGNALS[3:6], 700)
    expected |= {"amount_to_mean": 1.0, "payee_known": False, "payee_list": "none", "customer_list": "none"}
    assert output == expected


def test_get_risk_signals_passes_on_what_the_customer_did() -> None:
    payment = a_payment()
    values = {name: 100 + number for number, name in enumerate(SIGNALS[:11])} | {"payee_known": True, "payee_list": "allow", "customer_list": "block"}
    context = context_for(payment, activity=ActivityInMemory(an_activity(payment, **values)))
    output = call_tool(tool("get_risk_signals", "getRiskSignals"), context)
    assert {name: value for name, value in output.items() if name != "amount_to_mean"} == values


@pytest.mark.parametrize(("amount", "mean", "expected"), [(100, 300, 0.3333), (300, 100, 3.0), (1, 10**15, 0.0), (10**15, 1, 1e15), (50, 0, 1.0)])
def test_the_amount_is_compared_with_the_mean_to_four_decimals(amount: int, mean: int, expected: float) -> None:
    payment = a_payment(amount_minor=amount)
    context = context_for(payment, activity=ActivityInMemory(an_activity(payment, allowed_mean_minor=mean)))
    assert call_tool(tool("get_risk_signals", "getRiskSignals"), context)["amount_to_mean"] == expected


def test_create_case_stages_the_case_and_says_its_id() -> None:
    create, cases, verdict = tool("create_case", "createCase"), CasesInMemory(), Verdict("review", ("new_payee",))
    output = call_tool(create, context_for(a_payment(), cases=cases, verdict=verdict))
    assert cases.staged == {a_payment().payment_id: (UUID(output["case_id"]), verdict)}


def test_only_create_case_writes_and_none_acts_outside_of_postgresql() -> None:
    tools = [tool("get_balance", "getBalance"), tool("get_risk_signals", "getRiskSignals"), tool("create_case", "createCase")]
    assert [each.effect for each in tools] == [Effect.READ, Effect.READ, Effect.WRITE]
    assert not any(each.outside or each.blocking for each in tools)
