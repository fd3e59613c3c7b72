"""The built-in tools say what the store tells, in the fields that the default policy is written in."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from paynow.errors import ConfigurationRefused
from paynow.plugin_api import NEVER_S, Balance, Effect, Payment, Tool, Verdict
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
    *("failed_attempts_24h", "since_allowed_s", "customer_age_s", "payee_known_s", "payee_age_s", "payee_customers_24h"),
    *("currency_new", "amount_z_score", "amount_trailing_zeros", "daily_limit_share"),
]
MADE = ("amount_to_mean", "currency_new", "amount_z_score", "amount_trailing_zeros", "daily_limit_share")


def tool(plugin: str, name: str) -> Tool:
    return load_plugin(folder("plugins") / f"{plugin}.py").tools[name]


@pytest.mark.parametrize("path", BUILT_IN, ids=lambda path: path.stem)
def test_built_in_plugins_use_nothing_of_paynow_but_what_any_plugin_may(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    ours = {name for name in imported if name.split(".")[0] == "paynow"}
    assert ours - {"paynow.plugin_redis", "paynow.settings"} == {"paynow.plugin_api"}


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
    expected |= {"since_allowed_s": NEVER_S, "currency_new": True}
    assert output == expected


def test_get_risk_signals_passes_on_what_the_customer_did() -> None:
    payment = a_payment()
    values = {name: 100 + number for number, name in enumerate(SIGNALS) if name not in MADE}
    values |= {"payee_known": True, "payee_list": "allow", "customer_list": "block"}
    context = context_for(payment, activity=ActivityInMemory(an_activity(payment, **values)))
    output = call_tool(tool("get_risk_signals", "getRiskSignals"), context)
    assert {name: value for name, value in output.items() if name not in MADE} == values


@pytest.mark.parametrize(("amount", "mean", "expected"), [(100, 300, 0.3333), (300, 100, 3.0), (1, 10**15, 0.0), (10**15, 1, 1e15), (50, 0, 1.0)])
def test_the_amount_is_compared_with_the_mean_to_four_decimals(amount: int, mean: int, expected: float) -> None:
    payment = a_payment(amount_minor=amount)
    context = context_for(payment, activity=ActivityInMemory(an_activity(payment, allowed_mean_minor=mean)))
    assert call_tool(tool("get_risk_signals", "getRiskSignals"), context)["amount_to_mean"] == expected


def signal(name: str, payment: Payment, plugin_settings: dict[str, Any] | None = None, **activity: Any) -> Any:
    """One signal of a payment, after what the customer did."""
    signals = load_plugin(folder("plugins") / "get_risk_signals.py", **(plugin_settings or {})).tools["getRiskSignals"]
    return call_tool(signals, context_for(payment, activity=ActivityInMemory(an_activity(payment, **activity))))[name]


@pytest.mark.parametrize(
    ("amount", "mean", "deviation", "expected"),
    [
        (1_500, 1_000.0, 250.0, 2.0),
        (500, 1_000.0, 250.0, -2.0),
        (1_000, 1_000.0, 250.0, 0.0),
        (1_001, 1_000.0, 300.0, 0.0033),
        (1_100, 1_000.0, 0.0, 2.0),
        (1_100, 1_000.0, 49.0, 2.0),
        (3, 1.0, 0.0, 2.0),
        (10**15, 1.0, 0.0, float(10**15 - 1)),
    ],
    ids=[
        "above",
        "below",
        "usual",
        "four decimals",
        "a twentieth of the mean at least",
        "also if they vary by less",
        "one unit at least",
        "the largest",
    ],
)
def test_an_amount_is_so_many_deviations_from_the_usual_one(amount: int, mean: float, deviation: float, expected: float) -> None:
    usual = {"usual_count": 5, "usual_mean_minor": mean, "usual_deviation_minor": deviation}
    assert signal("amount_z_score", a_payment(amount_minor=amount), **usual) == expected


def test_nothing_is_usual_before_five_payments() -> None:
    usual = {"usual_mean_minor": 10.0, "usual_deviation_minor": 1.0}
    assert [signal("amount_z_score", a_payment(amount_minor=1_000), usual_count=count, **usual) for count in (0, 4, 5)] == [0.0, 0.0, 990.0]


@pytest.mark.parametrize(
    ("amount", "currency", "zeros"),
    [
        *((12_550, "USD", 0), (12_500, "USD", 0), (12_000, "USD", 1), (500_000, "USD", 3), (100, "USD", 0), (10, "USD", 0), (100_001, "USD", 0)),
        *((5_000, "JPY", 3), (1, "JPY", 0), (1_250, "JPY", 1), (10**15, "JPY", 15)),
        *((100_000, "BHD", 2), (100, "BHD", 0), (10_000, "BHD", 1), (1_000_000, "CLF", 2)),
    ],
)
def test_zeros_at_the_end_of_an_amount_are_counted_in_major_units(amount: int, currency: str, zeros: int) -> None:
    assert signal("amount_trailing_zeros", a_payment(amount_minor=amount, currency=currency)) == zeros


@pytest.mark.parametrize(("allowed_count", "new"), [(0, True), (1, False)])
def test_a_currency_is_new_until_a_payment_in_it_was_allowed(allowed_count: int, new: bool) -> None:
    assert signal("currency_new", a_payment(), allowed_count=allowed_count) is new


@pytest.mark.parametrize(
    ("amount", "currency", "allowed", "expected"),
    [(12_500, "USD", 0, 0.025), (12_500, "USD", 487_500, 1.0), (1, "USD", 500_000, 1.0), (3, "JPY", 0, 0.0003), (12_500, "EUR", 10**15, 0.0)],
)
def test_the_share_of_a_daily_limit_counts_this_payment_in(amount: int, currency: str, allowed: int, expected: float) -> None:
    limits = {"daily_limit": {"USD": "5000.00", "JPY": "10000"}}
    assert signal("daily_limit_share", a_payment(amount_minor=amount, currency=currency), limits, allowed_minor_24h=allowed) == expected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"daily_limits": {}}, "there is no setting daily_limits; there is daily_limit"),
        ({"daily_limit": "5000"}, "daily_limit must be a table of currencies"),
        ({"daily_limit": {"USD": 5000}}, 'expected an amount of USD above zero in quotes, like "250", not 5000'),
        ({"daily_limit": {"USD": "5000.001"}}, "expected an amount of USD"),
        ({"daily_limit": {"USD": "0"}}, "expected an amount of USD above zero"),
        ({"daily_limit": {"USD": "much"}}, "expected an amount of USD"),
        ({"daily_limit": {"XTS": "5"}}, "'XTS' is no currency"),
    ],
)
def test_a_daily_limit_that_is_none_stops_the_boot(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        load_plugin(folder("plugins") / "get_risk_signals.py", **settings)
    assert said in str(refused.value)


def test_create_case_stages_the_case_and_says_its_id() -> None:
    create, cases, verdict = tool("create_case", "createCase"), CasesInMemory(), Verdict("review", ("new_payee",))
    output = call_tool(create, context_for(a_payment(), cases=cases, verdict=verdict))
    assert cases.staged == {a_payment().payment_id: (UUID(output["case_id"]), verdict)}


def test_only_create_case_writes_and_none_acts_outside_of_postgresql() -> None:
    tools = [tool("get_balance", "getBalance"), tool("get_risk_signals", "getRiskSignals"), tool("create_case", "createCase")]
    assert [each.effect for each in tools] == [Effect.READ, Effect.READ, Effect.WRITE]
    assert not any(each.outside or each.blocking for each in tools)
