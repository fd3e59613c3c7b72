"""The rules that ship with PayNow, over what the built-in tools declare."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from built_in_tools import built_in_tools, ordinary_outputs
from policy_samples import PAYMENT

from paynow.policy import Evaluation, Policy, compile_policy
from paynow.resources import folder


@pytest.fixture(scope="module")
def shipped() -> Policy:
    return compile_policy((folder("config") / "policy.toml").read_text(encoding="utf-8"), origin="config/policy.toml", tools=built_in_tools())


def decided(shipped: Policy, amount_minor: int = 12_550, available_minor: int = 10_000_000, **signals: Any) -> Evaluation:
    outputs = ordinary_outputs()
    outputs["getBalance"]["available_minor"] = available_minor
    outputs["getRiskSignals"] |= signals
    for tool, fields in built_in_tools().items():
        assert all(fields[name].accepts(value) for name, value in outputs[tool].items())
    return shipped.evaluate(replace(PAYMENT, amount_minor=amount_minor), outputs, {})


def test_the_samples_name_every_field_of_the_built_in_tools():
    assert {tool: set(output) for tool, output in ordinary_outputs().items()} == {tool: set(fields) for tool, fields in built_in_tools().items()}


def test_the_first_payment_of_a_small_amount_to_a_new_payee_is_allowed(shipped):
    assert decided(shipped) == Evaluation("allow", (), (), ())


CASES = [
    ("insufficient_funds", "block", {"available_minor": 12_549}, {"available_minor": 12_550}),
    ("customer_blocked", "block", {"customer_list": "block"}, {"customer_list": "allow"}),
    ("payee_blocked", "block", {"payee_list": "block"}, {"payee_list": "allow"}),
    ("velocity_1m", "review", {"attempts_1m": 11}, {"attempts_1m": 10}),
    ("velocity_1h", "review", {"attempts_1h": 61}, {"attempts_1h": 60}),
    ("new_payee_large_amount", "review", {"amount_minor": 100_000}, {"amount_minor": 99_999}),
    ("new_payee_large_amount", "review", {"amount_minor": 100_000}, {"amount_minor": 100_000, "payee_known": True}),
    ("new_payee_large_amount", "review", {"amount_minor": 100_000}, {"amount_minor": 100_000, "payee_list": "allow"}),
    ("unusual_amount", "review", {"allowed_count": 5, "amount_to_mean": 5.1}, {"allowed_count": 5, "amount_to_mean": 5.0}),
    ("unusual_amount", "review", {"allowed_count": 5, "amount_to_mean": 5.1}, {"allowed_count": 4, "amount_to_mean": 5.1}),
    ("daily_amount", "review", {"allowed_minor_24h": 1_987_451}, {"allowed_minor_24h": 1_987_450}),
    ("daily_amount", "review", {"allowed_minor_24h": 1_987_451}, {"allowed_minor_24h": 1_987_451, "payee_list": "allow"}),
]


@pytest.mark.parametrize(("identity", "verdict", "fires", "quiet"), CASES)
def test_each_rule_fires_at_its_bound_and_not_before(shipped, identity, verdict, fires, quiet):
    evaluation = decided(shipped, **fires)
    assert (evaluation.decision, evaluation.fired) == (verdict, (identity,))
    assert decided(shipped, **quiet) == Evaluation("allow", (), (), ())


def test_every_rule_is_covered_here(shipped):
    assert {rule.id for rule in shipped.rules} == {identity for identity, *_ in CASES}


def test_without_the_balance_it_blocks_and_without_the_signals_it_reviews(shipped):
    outputs = ordinary_outputs()
    assert shipped.tools_read == set(outputs)
    assert shipped.evaluate(PAYMENT, {"getRiskSignals": outputs["getRiskSignals"]}, {"getBalance": "block"}).decision == "block"
    assert shipped.evaluate(PAYMENT, {"getBalance": outputs["getBalance"]}, {"getRiskSignals": "review"}).decision == "review"
