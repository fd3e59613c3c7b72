"""Scores: what they add up to, which verdict that calls for, and what is made of those that cannot be told."""

from __future__ import annotations

import pytest
from policy_samples import ORIGIN, OUTPUTS, PAYMENT, TOOLS, faults, rule, score_rule

from paynow.policy import Evaluation, Policy, Reason, compile_policy

TRUE, FALSE = "payment.amount_minor >= 1", "payment.amount_minor == 1"
DEVICE = "getDevice.trusted"
"""True in the samples, and unknown without the device."""
DIVIDES_BY_ZERO = "1 / getDevice.age_days == 0"


def scored(*rules: str, review: int | None = 50, block: int | None = 100, default: str = "allow") -> Policy:
    thresholds = [f"{name} = {least}\n" for name, least in (("review", review), ("block", block)) if least is not None]
    text = f'default = "{default}"\n[thresholds]\n{"".join(thresholds)}' + "".join(rules)
    # An unreached threshold is refused, so one more rule keeps them all in reach and never fires.
    return compile_policy(text + score_rule(FALSE, 1_000, identity="rest"), origin=ORIGIN, tools=TOOLS)


def decided(policy: Policy, floors: dict[str, str] | None = None, **device: object) -> Evaluation:
    return policy.evaluate(PAYMENT, {**OUTPUTS, "getDevice": {**OUTPUTS["getDevice"], **device}}, floors or {})


@pytest.mark.parametrize(
    ("scores", "decision", "reasons"),
    [
        ((49,), "allow", ()),
        ((50,), "review", ("r0",)),
        ((20, 30), "review", ("r0", "r1")),
        ((50, 49), "review", ("r0", "r1")),
        ((50, 50), "block", ("r0", "r1")),
        ((150,), "block", ("r0",)),
        ((60, -11), "allow", ()),
        ((60, -10), "review", ("r0",)),
        ((-10, 60), "review", ("r1",)),
        ((-5,), "allow", ()),
    ],
)
def test_the_sum_calls_for_a_verdict_and_the_reasons_name_what_added_to_it(scores, decision, reasons):
    said = decided(scored(*(score_rule(TRUE, score, identity=f"r{number}") for number, score in enumerate(scores))))
    assert (said.decision, said.score, said.score_max) == (decision, sum(scores), sum(scores))
    assert tuple(reason.code for reason in said.reasons) == reasons
    assert said.fired == tuple(f"r{number}" for number in range(len(scores)))


@pytest.mark.parametrize(("review", "block", "decision"), [(50, None, "review"), (None, 50, "block"), (None, 70, "allow")])
def test_one_threshold_is_enough(review, block, decision):
    assert decided(scored(score_rule(TRUE, 60), review=review, block=block)).decision == decision


def test_the_strictest_of_rules_score_and_default_wins_and_reasons_keep_their_order():
    rules = (
        rule(TRUE, identity="v", then="review", message="V"),
        score_rule(TRUE, 60, identity="s", message="S"),
        rule(TRUE, identity="b", then="block", message="B"),
        score_rule(TRUE, 50, identity="t", message="T"),
    )
    said = decided(scored(*rules[:3]))
    assert (said.decision, [reason.code for reason in said.reasons]) == ("block", ["b", "v", "s"])
    said = decided(scored(*rules))
    assert said.reasons == (Reason("s", "S"), Reason("b", "B"), Reason("t", "T"), Reason("v", "V"))
    assert decided(scored(score_rule(TRUE, 10), default="block")).decision == "block"


def test_a_policy_without_scores_has_no_score_and_one_with_them_always_has():
    without = compile_policy(rule(TRUE), origin=ORIGIN, tools=TOOLS)
    assert (decided(without).score, decided(without).score_max, without.thresholds) == (None, None, None)
    assert decided(scored()) == Evaluation("allow", (), (), (), score=0, score_max=0)


# ---------------------------------------------------------------- scores that cannot be told


@pytest.mark.parametrize("floor", ["review", "block"])
def test_a_score_that_a_failed_tool_would_tell_leaves_the_verdict_to_its_fallback(floor):
    said = decided(scored(score_rule(TRUE, 10), score_rule(DEVICE, 200, identity="s")), {"getDevice": floor})
    assert said == Evaluation(floor, (Reason("tool_failed", "getDevice gave no answer"),), ("r",), ("s",), score=10, score_max=210)


def test_what_can_be_told_still_counts_beside_a_failed_tool():
    said = decided(scored(score_rule(TRUE, 100), score_rule(DEVICE, 10, identity="s")), {"getDevice": "review"})
    assert (said.decision, [reason.code for reason in said.reasons]) == ("block", ["r", "tool_failed"])


def test_a_deduction_that_cannot_be_told_is_not_made():
    policy = scored(score_rule(TRUE, 100), score_rule(DEVICE, -60, identity="s"))
    assert (decided(policy).decision, decided(policy).score) == ("allow", 40)
    said = decided(policy, {"getDevice": "review"})
    assert (said.decision, said.score, said.score_max, said.unknown) == ("block", 100, 100, ("s",))


@pytest.mark.parametrize(
    ("known", "failed", "decision"), [(10, 39, "allow"), (10, 40, "review"), (50, 49, "review"), (50, 50, "review"), (100, 5, "block")]
)
def test_a_score_that_cannot_be_evaluated_counts_if_the_verdict_might_be_another_with_it(known, failed, decision):
    """No tool failed, so no fallback speaks for the rule: a person looks, if it could have made a difference."""
    said = decided(scored(score_rule(TRUE, known), score_rule(DIVIDES_BY_ZERO, failed, identity="s")), age_days=0)
    assert (said.decision, said.unknown, said.score, said.score_max) == (decision, ("s",), known, known + failed)
    matters = (known, failed) in ((10, 40), (50, 50))
    assert [reason.message for reason in said.reasons if reason.code == "rule_failed"] == ["rule s could not be evaluated"] * matters


def test_scores_that_cannot_be_evaluated_count_together():
    said = decided(scored(*(score_rule(DIVIDES_BY_ZERO, 25, identity=f"s{number}") for number in range(2))), age_days=0)
    assert (said.decision, [reason.code for reason in said.reasons]) == ("review", ["rule_failed", "rule_failed"])


# ---------------------------------------------------------------- what is refused


def found(text: str) -> list[tuple[str, str, str]]:
    return [(fault.origin.removeprefix(f"{ORIGIN}:"), fault.key, fault.message) for fault in faults(text)]


@pytest.mark.parametrize(
    ("thresholds", "line", "message"),
    [
        ("review = 0", "2", "`review` must be a whole number from 1 to 1000000"),
        ("block = 1000001", "2", "`block` must be a whole number from 1 to 1000000"),
        ("review = 1.5", "2", "`review` must be a whole number from 1 to 1000000"),
        ("review = true", "2", "`review` must be a whole number from 1 to 1000000"),
        ("review = 40\nblock = 40", "3", "`block` must be greater than `review`, which is 40"),
        ("rewiev = 40", "2", "unknown key `rewiev`; did you mean `review`?"),
        ("review = 41", "2", "`review` is never reached: all scores together are 40"),
        ("review = 40\nblock = 41", "3", "`block` is never reached: all scores together are 40"),
        ("", "1", "must be a table with `review`, `block` or both: the least score that calls for it"),
    ],
)
def test_thresholds_are_whole_numbers_in_order_and_within_reach(thresholds, line, message):
    text = f"[thresholds]\n{thresholds}\n" + score_rule(TRUE, 40) + score_rule(TRUE, -10, identity="s")
    assert found(text) == [(line, "thresholds", message)]


def test_thresholds_within_reach_are_taken():
    assert found("[thresholds]\nreview = 1\nblock = 40\n" + score_rule(TRUE, 40)) == []


def test_scores_without_thresholds_would_come_to_nothing_and_are_refused():
    message = "has a score, but there are no [thresholds] that say what scores come to: write review = …, block = … or both"
    assert found(score_rule(TRUE, 40)) == [("4", "rule r", message)]


@pytest.mark.parametrize("score", ["0", "1.5", "true", '"5"', "1000001", "-1000001"])
def test_a_score_is_a_whole_number_and_not_zero(score):
    text = "[thresholds]\nreview = 1\n" + score_rule(TRUE, 5, identity="s") + score_rule(TRUE, score)
    assert ("11", "rule r", "`score` must be a whole number from 1 to 1000000, or as much below zero") in found(text)


def test_a_rule_has_a_verdict_or_a_score():
    text = "[thresholds]\nreview = 1\n" + score_rule(TRUE, 5) + 'then = "review"\n'
    assert found(text) == [("6", "rule r", "a rule has either `then` or `score`")]


def test_insufficient_funds_is_no_matter_of_scores():
    text = "[thresholds]\nreview = 1\n" + score_rule(TRUE, 5, identity="insufficient_funds")
    assert [(line, message[:32]) for line, _, message in found(text)] == [("6", "insufficient_funds stands for mo")]
