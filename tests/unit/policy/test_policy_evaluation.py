"""What a policy says of a payment: verdict, reasons and their order, and what happens when a value cannot be told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from policy_samples import OUTPUTS, PAYMENT, faults_of_when, policy, rule

from paynow.policy import Evaluation, Policy, Reason
from paynow.policy.compiling import GROUP_SIZE
from paynow.policy.language import readable

TRUE, FALSE = "payment.amount_minor >= 1", "payment.amount_minor == 1"
DIVIDES_BY_ZERO = "100 / getBalance.reserved_minor > 1"


def decided(checked: Policy, floors: dict[str, str] | None = None, **changed: object) -> Evaluation:
    outputs = {tool: output for tool, output in OUTPUTS.items() if tool not in (floors or {})}
    return checked.evaluate(replace(PAYMENT, **changed), outputs, floors or {})


@pytest.mark.parametrize("default", ["allow", "review", "block"])
def test_without_a_rule_that_fires_the_default_holds(default):
    assert decided(policy(rule(FALSE), default=default)) == Evaluation(default, (), (), ())


@pytest.mark.parametrize(
    ("default", "then", "decision"),
    [("allow", "review", "review"), ("allow", "block", "block"), ("review", "review", "review"), ("block", "review", "block")],
)
def test_the_strictest_of_default_and_rules_wins(default, then, decision):
    assert decided(policy(rule(TRUE, then=then), default=default)) == Evaluation(decision, (Reason("r", "It looks odd"),), ("r",), ())


def test_all_rules_that_fire_are_reasons_strictest_first_then_in_the_order_of_the_file():
    checked = policy(
        rule(TRUE, identity="c", message="C"),
        rule(TRUE, identity="b", then="block", message="B"),
        rule(FALSE, identity="x", then="block"),
        rule(TRUE, identity="a", message="A"),
        rule(TRUE, identity="d", then="block", message="D"),
    )
    evaluation = decided(checked)
    assert evaluation.decision == "block"
    assert evaluation.reasons == (Reason("b", "B"), Reason("d", "D"), Reason("c", "C"), Reason("a", "A"))
    assert evaluation.fired == ("c", "b", "a", "d")


@pytest.mark.parametrize(
    ("when", "changed", "fires"),
    [
        ("payment.amount_minor > 12549", {}, True),
        ("payment.amount_minor > 12549", {"amount_minor": 12549}, False),
        ("payment.currency == 'USD'", {"currency": "JPY"}, False),
        ("payment.payee_id.startsWith('p_')", {}, True),
        ("payment.payee_id.matches('^p_[0-9]+$')", {"payee_id": "p_x"}, False),
        ("payment.customer_id == 'c_123'", {}, True),
        ("getDevice.score < 0.3 && getDevice.trusted && getDevice.kind == 'phone' && getDevice.label == 'mine'", {}, True),
        ("['p_7', 'p_9'].exists(p, payment.payee_id.startsWith(p))", {}, True),
        ("payment.amount_minor * 2 > getBalance.available_minor", {"amount_minor": 60_000}, True),
    ],
)
def test_rules_read_the_payment_and_the_outputs(when, changed, fires):
    assert (decided(policy(rule(when)), None, **changed).fired == ("r",)) is fires


def test_a_whole_number_may_stand_where_a_real_one_is_declared():
    checked = policy(rule("getDevice.score >= 1.0"))
    assert checked.evaluate(PAYMENT, {"getDevice": {"score": 1}}, {}).fired == ("r",)


@pytest.mark.parametrize(("floor", "decision"), [("review", "review"), ("block", "block")])
def test_a_failed_tool_demands_its_floor_and_is_a_reason(floor, decision):
    evaluation = decided(policy(rule("getDevice.score > 0.9", then="block")), {"getDevice": floor})
    assert evaluation == Evaluation(decision, (Reason("tool_failed", "getDevice gave no answer"),), (), ("r",))


def test_a_failed_tool_that_no_rule_reads_demands_its_floor_too():
    assert decided(policy(), {"getDevice": "block"}).decision == "block"


def test_a_failed_tool_that_is_to_be_ignored_changes_nothing():
    assert decided(policy(rule(FALSE)), {"getDevice": "ignore"}) == Evaluation("allow", (), (), ())


def test_a_rule_that_reads_an_ignored_tool_is_at_least_a_review():
    evaluation = decided(policy(rule("getDevice.score > 0.9")), {"getDevice": "ignore"})
    assert evaluation == Evaluation("review", (Reason("rule_failed", "rule r could not be evaluated"),), (), ("r",))


def test_an_output_that_is_missing_although_no_tool_failed_is_at_least_a_review():
    evaluation = policy(rule("getDevice.score > 0.9")).evaluate(PAYMENT, {}, {})
    assert (evaluation.decision, evaluation.unknown) == ("review", ("r",))


def test_what_a_failed_tool_said_is_not_looked_at():
    checked = policy(rule("getDevice.trusted", then="block"))
    assert checked.evaluate(PAYMENT, OUTPUTS, {"getDevice": "review"}).fired == ()


def test_failed_tools_come_after_rules_of_the_same_strictness_in_the_order_of_their_names():
    checked = policy(rule(TRUE, identity="a", message="A"), rule(TRUE, identity="b", then="block", message="B"))
    evaluation = decided(checked, {"getDevice": "review", "getBalance": "review"})
    assert [reason.code for reason in evaluation.reasons] == ["b", "a", "tool_failed", "tool_failed"]
    assert [reason.message for reason in evaluation.reasons[2:]] == ["getBalance gave no answer", "getDevice gave no answer"]
    assert evaluation.decision == "block"
    assert decided(checked, {"getBalance": "review", "getDevice": "review"}) == evaluation


@pytest.mark.parametrize(
    ("when", "fired", "unknown"),
    [
        ("getDevice.trusted || payment.amount_minor >= 1", ("r",), ()),
        ("payment.amount_minor >= 1 || getDevice.trusted", ("r",), ()),
        ("getDevice.trusted && payment.amount_minor == 1", (), ()),
        ("payment.amount_minor == 1 && getDevice.trusted", (), ()),
        ("getDevice.trusted && payment.amount_minor >= 1", (), ("r",)),
        ("getDevice.trusted || payment.amount_minor == 1", (), ("r",)),
        ("!getDevice.trusted", (), ("r",)),
        ("getDevice.trusted || 1 == 1", ("r",), ()),
        ("getDevice.trusted || getBalance.available_minor > 5", ("r",), ()),
        ("getDevice.trusted && getBalance.available_minor > 5", (), ("r",)),
        ("payment.amount_minor >= 1 ? payment.amount_minor >= 2 : getDevice.trusted", ("r",), ()),
    ],
)
def test_a_rule_says_what_can_be_told_without_the_failed_tool(when, fired, unknown):
    evaluation = decided(policy(rule(when)), {"getDevice": "review"})
    assert (evaluation.fired, evaluation.unknown) == (fired, unknown)


@pytest.mark.parametrize("when", [DIVIDES_BY_ZERO, "getDevice.age_days * 9223372036854775807 > 1", "{'a': 1}[payment.currency] == 1"])
def test_a_rule_that_cannot_be_evaluated_is_unknown_and_at_least_a_review(when):
    evaluation = decided(policy(rule(when, then="block")))
    assert evaluation == Evaluation("review", (Reason("rule_failed", "rule r could not be evaluated"),), (), ("r",))


def test_a_rule_that_cannot_be_evaluated_does_not_hide_the_others():
    evaluation = decided(policy(rule(DIVIDES_BY_ZERO, identity="a"), rule(TRUE, identity="b", then="block"), rule(FALSE, identity="c")))
    assert (evaluation.decision, evaluation.fired, evaluation.unknown) == ("block", ("b",), ("a",))
    assert [reason.code for reason in evaluation.reasons] == ["b", "rule_failed"]


@pytest.mark.parametrize("value", ["a\0b", "\ud800", 5, None, object(), 2**70])
def test_a_text_that_is_none_makes_the_rule_unknown_and_never_true(value):
    outputs = {"getDevice": {**OUTPUTS["getDevice"], "label": value}}
    evaluation = policy(rule("getDevice.label == 'a' || getDevice.label != 'a'")).evaluate(PAYMENT, outputs, {})
    assert (evaluation.decision, evaluation.unknown) == ("review", ("r",))


def test_only_whole_texts_are_handed_to_the_language():
    assert [readable(text) for text in ("", "mine", "ü€😀", "a\0b", "\ud800", "ü\udfff")] == [True, True, True, False, False, False]


@pytest.mark.parametrize("value", ["5", None, 2**63, 1.5, float("nan")])
def test_a_number_that_is_none_makes_the_rule_unknown_and_never_true(value):
    outputs = {"getDevice": {**OUTPUTS["getDevice"], "delta": value}}
    assert policy(rule("getDevice.delta > 3 || getDevice.delta <= 3")).evaluate(PAYMENT, outputs, {}).unknown == ("r",)


@pytest.mark.parametrize("at", [0, 1, GROUP_SIZE - 1, GROUP_SIZE, 2 * GROUP_SIZE, 2 * GROUP_SIZE + 2])
@pytest.mark.parametrize("when", [TRUE, DIVIDES_BY_ZERO])
def test_rules_are_found_wherever_they_stand(at, when):
    evaluation = decided(policy(*(rule(when if number == at else FALSE, identity=f"r{number}") for number in range(2 * GROUP_SIZE + 3))))
    assert evaluation.fired + evaluation.unknown == (f"r{at}",)


def test_a_rule_that_ends_in_a_comment_stands_beside_others():
    checked = policy(rule(f"{FALSE} // never"), rule(f"{TRUE} // always", identity="s"))
    assert decided(checked).fired == ("s",)
    assert checked.groups[0].which is not None


def test_a_rule_as_deep_as_the_language_goes_stands_beside_others():
    deepest = max(depth for depth in range(20, 50) if not faults_of_when("(" * depth + TRUE + ")" * depth))
    checked = policy(rule("(" * deepest + TRUE + ")" * deepest), rule(FALSE, identity="s"))
    assert checked.groups[0].which is None
    assert decided(checked).fired == ("r",)


def test_a_policy_tells_which_tools_and_names_its_rules_read():
    checked = policy(
        rule("payment.amount_minor > 5"),
        rule("getBalance.available_minor > 5 && [1].exists(n, n == getBalance.reserved_minor)", identity="s"),
    )
    assert checked.tools_read == {"getBalance"}
    assert [rule.tools for rule in checked.rules] == [frozenset(), {"getBalance"}]
    assert checked.rules[1].names == {"getBalance.available_minor", "getBalance.reserved_minor"}


def test_the_same_payment_and_outputs_give_the_same_answer():
    checked = policy(rule(TRUE), rule(DIVIDES_BY_ZERO, identity="s"), rule("getDevice.score > 0.1", identity="t"))
    again = policy(rule(TRUE), rule(DIVIDES_BY_ZERO, identity="s"), rule("getDevice.score > 0.1", identity="t"))
    assert checked == again
    assert decided(checked, {"getDevice": "review"}) == decided(again, {"getDevice": "review"}) == decided(checked, {"getDevice": "review"})
