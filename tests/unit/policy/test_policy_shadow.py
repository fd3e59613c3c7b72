"""Shadow rules are told and count for nothing; what the one who pays may read never comes from what is written for others."""

from __future__ import annotations

import pytest
from policy_samples import ORIGIN, OUTPUTS, PAYMENT, TOOLS, faults, policy, rule, score_rule, shadow

from paynow.policy import Evaluation, Reason, compile_policy

TRUE, FALSE = "payment.amount_minor >= 1", "payment.amount_minor == 1"
THRESHOLDS = "[thresholds]\nreview = 50\n"


def decided(text: str, floors: dict[str, str] | None = None) -> Evaluation:
    return compile_policy(text, origin=ORIGIN, tools=TOOLS).evaluate(PAYMENT, OUTPUTS, floors or {})


def test_a_shadow_rule_that_is_true_is_told_and_changes_nothing():
    assert decided(shadow(rule(TRUE, then="block"))) == Evaluation("allow", (), (), (), shadow_fired=("r",))


def test_a_shadow_rule_that_is_false_is_not_told():
    assert decided(shadow(rule(FALSE, then="block"))) == Evaluation("allow", (), (), ())


def test_a_shadow_score_is_not_added():
    said = decided(THRESHOLDS + score_rule(TRUE, 10) + shadow(score_rule(TRUE, 90, identity="s")))
    assert said == Evaluation("allow", (), ("r",), (), score=10, score_max=10, shadow_fired=("s",))


@pytest.mark.parametrize("when", ["1 / getDevice.age_days == 0", "getDevice.trusted"])
def test_a_shadow_rule_that_cannot_be_told_is_told_as_such_and_changes_nothing(when):
    outputs = {"getBalance": OUTPUTS["getBalance"], "getDevice": {"age_days": 0}}
    text = THRESHOLDS + shadow(rule(when, then="block")) + shadow(score_rule(when, 90, identity="s"))
    said = compile_policy(text, origin=ORIGIN, tools=TOOLS).evaluate(PAYMENT, outputs, {})
    assert said == Evaluation("allow", (), (), (), score=0, score_max=0, shadow_unknown=("r", "s"))


def test_beside_a_failed_tool_a_shadow_rule_changes_nothing_either():
    said = decided(shadow(rule("getDevice.trusted", then="block")), {"getDevice": "review"})
    assert said == Evaluation("review", (Reason("tool_failed", "getDevice gave no answer"),), (), (), shadow_unknown=("r",))


def test_a_tool_that_only_shadow_rules_read_may_be_ignored():
    watched = policy(shadow(rule("getDevice.trusted")), rule("getBalance.available_minor > 5", identity="s"))
    assert watched.tools_read == {"getBalance"}
    assert watched.evaluate(PAYMENT, OUTPUTS, {}).shadow_fired == ("r",)
    assert watched.evaluate(PAYMENT, OUTPUTS, {"getDevice": "ignore"}).shadow_unknown == ("r",)


@pytest.mark.parametrize("mode", ["watch", "Shadow", "", "off"])
def test_another_mode_is_refused(mode):
    [fault] = faults(rule(TRUE) + f'mode = "{mode}"\n')
    assert (fault.origin, fault.message) == (f"{ORIGIN}:6", '`mode` must be "enforce" or "shadow"')


def test_to_enforce_is_the_default():
    assert policy(rule(TRUE) + 'mode = "enforce"\n').rules == policy(rule(TRUE)).rules


def test_a_shadow_rule_is_checked_like_any_other():
    assert [fault.origin for fault in faults(shadow(rule("nope > 1")) + shadow(rule(f"{FALSE} && payment.amount_minor > 5", identity="s")))] == [
        f"{ORIGIN}:3",
        f"{ORIGIN}:9",
    ]


# ---------------------------------------------------------------- what the one who pays may read


def test_a_customers_message_stands_beside_the_other():
    said = policy(rule(TRUE) + 'customer_message = "We are looking at it"\n').evaluate(PAYMENT, OUTPUTS, {})
    assert said.reasons == (Reason("r", "It looks odd", "We are looking at it"),)


def test_without_one_nothing_is_put_in_its_place():
    said = policy(rule(TRUE), rule("1 / getDevice.age_days == 0", identity="s")).evaluate(
        PAYMENT, {"getDevice": {"age_days": 0}}, {"getBalance": "block"}
    )
    assert [(reason.code, reason.customer_message) for reason in said.reasons] == [("tool_failed", None), ("r", None), ("rule_failed", None)]


@pytest.mark.parametrize("message", ["", "  ", "two\\nlines", "a" * 301])
def test_a_customers_message_is_one_line(message):
    assert [fault.origin for fault in faults(rule(TRUE) + f'customer_message = "{message}"\n')] == [f"{ORIGIN}:6"]
