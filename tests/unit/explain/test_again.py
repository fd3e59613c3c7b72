"""Policies compiled as records need them: tools that are gone, changed, or never answered; and what differs is named."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from paynow.agent import Trace
from paynow.explain.again import PastPolicies, verify
from paynow.payments.answer import Decision, finish
from paynow.plugin_api import Field, Payment, choice, flag, real, text, whole
from paynow.policy import compile_policy

THEN = {
    "getBalance": {"available_minor": whole(minimum=0)},
    "getOdd": {"a": whole(), "b": whole(), "kind": choice("x", "y"), "sure": flag(), "share": real(), "word": text()},
}
"""What the tools declared when the payments were decided."""
TEXT = """
[[rule]]
id = "equal"
when = "getOdd.a == getOdd.b"
then = "review"
message = "Equal"
[[rule]]
id = "odd"
when = '''getOdd.kind == "y" && getOdd.share > 0.5 && getOdd.word.startsWith("é") && getOdd.sure'''
then = "block"
message = "Odd"
"""
PAYMENT = Payment(UUID(int=1), "c_1", "p_1", 1_000, "USD")
SAID: dict[str, Any] = {"a": 3, "b": 3, "kind": "y", "sure": True, "share": 1.0, "word": "é"}
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)


def decided(said: dict[str, Any] | None) -> tuple[str, bytes, str]:
    """Verdict, answer and policy version of a payment; without `said` the tool gave no answer."""
    policy = compile_policy(TEXT, origin="then", tools=THEN)
    outputs = {"getBalance": {"available_minor": 5_000}, **({"getOdd": said} if said else {})}
    floors = {} if said else {"getOdd": "review"}
    trace = Trace()
    trace.plan(list(THEN), policy.version)
    for tool, output in outputs.items():
        trace.tool(tool, 1, "ok", 0.001, output=output)
    if not said:
        trace.tool("getOdd", 1, "error", 0.001, error="ValueError")
        trace.fallback("getOdd", "review")
    evaluation = policy.evaluate(PAYMENT, outputs, floors)
    trace.decide(evaluation.decision, evaluation.fired, evaluation.unknown)
    decision = Decision(
        PAYMENT, "r", evaluation.decision, evaluation.reasons, not said, policy.version, None, False, NOW, NOW, trace
    )  # fmt: skip
    return evaluation.decision, finish(decision).answer, policy.version


@pytest.mark.parametrize("said", [SAID, {**SAID, "b": 4, "kind": "x"}, {**SAID, "b": 4}, None], ids=["both", "neither", "odd", "no answer"])
@pytest.mark.parametrize(
    "declared",
    [
        THEN,
        {"getBalance": THEN["getBalance"]},
        {},
        {**THEN, "getOdd": {"a": real(), "b": real(), "kind": choice("x"), "sure": text()}},
        {**THEN, "getOdd": {**THEN["getOdd"], "kind": choice("z"), "share": real(maximum=0.1)}},
        {**THEN, "getOdd": {**THEN["getOdd"], "newer": whole(minimum=1)}},
    ],
    ids=["as then", "tool gone", "all gone", "other kinds", "other bounds", "a field more"],
)
def test_a_decision_comes_out_the_same_whatever_has_become_of_its_tools(said: dict[str, Any] | None, declared: dict[str, dict[str, Field]]) -> None:
    decision, answer, version = decided(said)
    assert verify(PAYMENT, decision, answer, version, PastPolicies(declared, {version: TEXT}.get)) == []


def test_records_of_different_kinds_under_one_version_are_each_taken_as_they_are() -> None:
    """The second was recorded as if its tool had said real numbers then."""
    policies = PastPolicies({}, {decided(SAID)[2]: TEXT}.get)
    for said in (SAID, {**SAID, "a": 3.5, "b": 3.5}, SAID):
        decision, answer, version = decided(SAID)
        written = answer.replace(b'"a":3,"b":3', f'"a":{said["a"]},"b":{said["b"]}'.encode())
        assert verify(PAYMENT, decision, written, version, policies) == []


def test_what_differs_is_named() -> None:
    decision, answer, version = decided(SAID)
    policies = PastPolicies(THEN, {version: TEXT}.get)
    assert [one.what for one in verify(PAYMENT, "allow", answer, version, policies)] == ["decision beside its answer"]
    assert [one.what for one in verify(PAYMENT, decision, answer, "f" * 32, policies)] == ["policy beside its answer"]
    assert [one.what for one in verify(PAYMENT, decision, b"{}", version, policies)] == ["record"]
    assert [one.again for one in verify(PAYMENT, decision, answer, version, PastPolicies(THEN, {}.get))] == ["is not stored"]
    assert "does not compile any more" in verify(PAYMENT, decision, answer, version, PastPolicies(THEN, {version: "[["}.get))[0].again
