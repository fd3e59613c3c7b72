"""A decision read back from its answer and decided again, over answers that PayNow's own code wrote."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import orjson
import pytest

from paynow.agent import Trace
from paynow.payments.answer import Decision, finish, overruled
from paynow.payments.recorded import RecordUnreadable, Span, decide_again, read_answer, spans
from paynow.plugin_api import Payment, flag, real, whole
from paynow.policy import Policy, compile_policy

TOOLS = {"getBalance": {"available_minor": whole(minimum=0)}, "getScore": {"score": real(), "listed": flag()}}
TEXT = """
[[rule]]
id = "insufficient_funds"
when = "getBalance.available_minor < payment.amount_minor"
then = "block"
message = "Too little"
[[rule]]
id = "risky"
when = "getScore.score > 5.0"
then = "review"
message = "Risky"
"""
PAYMENT = Payment(UUID("01920000-0000-7000-8000-000000000001"), "c_1", "p_1", 1_000, "USD")
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return compile_policy(TEXT, origin="test", tools=TOOLS)


def decided(policy: Policy, outputs: dict, floors: dict | None = None, *, short: bool = False) -> bytes:
    """The answer of a payment for which the tools said this."""
    floors = floors or {}
    trace = Trace()
    trace.plan(list(TOOLS), policy.version)
    for tool in TOOLS:
        if tool in floors:
            trace.tool(tool, 1, "error", 0.001, error="ValueError")
            trace.tool(tool, 2, "timeout", 0.002, error="time_limit")
            trace.fallback(tool, floors[tool])
        else:
            trace.tool(tool, 1, "ok", 0.001, output=outputs[tool])
    evaluation = policy.evaluate(PAYMENT, outputs, floors)
    trace.decide(
        evaluation.decision,
        evaluation.fired,
        evaluation.unknown,
        score=evaluation.score,
        score_max=evaluation.score_max,
        shadow_fired=evaluation.shadow_fired,
        shadow_unknown=evaluation.shadow_unknown,
    )
    decision = Decision(
        payment=PAYMENT,
        request_id="r",
        decision=evaluation.decision,
        reasons=evaluation.reasons,
        degraded=bool(floors),
        policy_version=policy.version,
        case=None,
        case_pending=False,
        decided_at=NOW,
        reserved_until=NOW,
        trace=trace,
    )
    return finish(overruled(decision) if short else decision).answer


def says(available_minor: int = 5_000, score: float = 1.0) -> dict:
    return {"getBalance": {"available_minor": available_minor}, "getScore": {"score": score, "listed": False}}


@pytest.mark.parametrize(
    ("outputs", "floors", "decision"),
    [
        (says(), {}, "allow"),
        (says(score=6.0), {}, "review"),
        (says(available_minor=1), {}, "block"),
        (says(), {"getScore": "review"}, "review"),
        (says(), {"getBalance": "block"}, "block"),
        (says(available_minor=1), {"getScore": "ignore"}, "block"),
    ],
)
def test_every_decision_comes_out_the_same_again(policy: Policy, outputs: dict, floors: dict, decision: str) -> None:
    recorded = read_answer(decided(policy, outputs, floors))
    assert (recorded.decision, recorded.degraded, dict(recorded.floors)) == (decision, bool(floors), floors)
    assert set(recorded.outputs) == set(TOOLS) - set(floors)
    assert decide_again(recorded, PAYMENT, policy) == []


def test_what_a_later_attempt_said_is_what_counts(policy: Policy) -> None:
    first, second = b'"attempt":1,"status":"ok"', b'"attempt":2,"status":"ok"'
    failed = b'{"step":"tool","tool":"getScore","attempt":1,"status":"error","durationMs":1.0,"error":"x"},{"step":"tool","tool":"getScore",'
    answer = decided(policy, says(score=6.0)).replace(b'{"step":"tool","tool":"getScore",' + first, failed + second)
    recorded = read_answer(answer)
    assert len(recorded.steps) == 6
    assert recorded.outputs == says(score=6.0)
    assert decide_again(recorded, PAYMENT, policy) == []


def test_an_allow_that_the_settle_overruled_comes_out_the_same(policy: Policy) -> None:
    recorded = read_answer(decided(policy, says(), short=True))
    assert (recorded.decided, recorded.decision, recorded.overruled) == ("allow", "block", True)
    assert decide_again(recorded, PAYMENT, policy) == []


def test_an_overruled_verdict_that_comes_out_otherwise_is_a_difference(policy: Policy) -> None:
    recorded = read_answer(decided(policy, says(), short=True))
    differences = decide_again(replace(recorded, outputs=says(score=6.0)), PAYMENT, policy)
    assert [difference.what for difference in differences] == ["verdict", "rules that fired", "decision", "reasons"]


def test_another_output_is_a_difference_in_verdict_rules_decision_and_reasons(policy: Policy) -> None:
    answer = decided(policy, says()).replace(b'"score":1.0', b'"score":6.0')
    differences = decide_again(read_answer(answer), PAYMENT, policy)
    assert [(one.what, one.recorded, one.again) for one in differences] == [
        ("verdict", "allow", "review"),
        ("rules that fired", "none", "risky"),
        ("decision", "allow", "review"),
        ("reasons", "none", "risky (Risky)"),
    ]


@pytest.mark.parametrize(
    ("recorded_text", "changed", "what"),
    [
        (b'"decision":"review"', b'"decision":"allow"', ["verdict", "decision"]),
        (b'"message":"Risky"', b'"message":"Fine"', ["reasons"]),
        (b'"degraded":false', b'"degraded":true', ["degraded"]),
        (b'"unknown":[]', b'"unknown":["risky"]', ["rules that could not be evaluated"]),
    ],
)
def test_each_part_that_was_changed_is_named(policy: Policy, recorded_text: bytes, changed: bytes, what: list[str]) -> None:
    answer = decided(policy, says(score=6.0)).replace(recorded_text, changed)
    assert [difference.what for difference in decide_again(read_answer(answer), PAYMENT, policy)] == what


SCORED = """
[thresholds]
review = 50
[[rule]]
id = "low"
when = "getBalance.available_minor < 100"
score = 30
message = "Little left"
[[rule]]
id = "risky"
when = "getScore.score > 5.0"
score = 60
message = "Risky"
customer_message = "We are looking at it"
[[rule]]
id = "listed"
when = "getScore.listed || getScore.score > 5.0"
mode = "shadow"
then = "block"
message = "Listed"
"""


@pytest.fixture(scope="module")
def scored() -> Policy:
    return compile_policy(SCORED, origin="test", tools=TOOLS)


@pytest.mark.parametrize(
    ("outputs", "floors", "score", "shadow"),
    [(says(), {}, (0, 0), ()), (says(score=6.0), {}, (60, 60), ("listed",)), (says(available_minor=1), {"getScore": "review"}, (30, 90), ())],
)
def test_scores_shadow_rules_and_customers_messages_come_out_the_same_again(
    scored: Policy, outputs: dict, floors: dict, score: tuple, shadow: tuple
) -> None:
    recorded = read_answer(decided(scored, outputs, floors))
    assert ((recorded.score, recorded.score_max), recorded.shadow_fired) == (score, shadow)
    assert decide_again(recorded, PAYMENT, scored) == []


@pytest.mark.parametrize(
    ("recorded_text", "changed", "what"),
    [
        (b'"score":60,"', b'"score":61,"', ["score"]),
        (b'"shadowFired":["listed"]', b'"shadowFired":[]', ["shadow rules that fired"]),
        (b'"shadowFired":["listed"]', b'"shadowUnknown":["listed"]', ["shadow rules that fired", "shadow rules that could not be evaluated"]),
        (b'"customerMessage":"We are looking at it"', b'"customerMessage":"Risky"', ["reasons"]),
        (b',"customerMessage":"We are looking at it"', b"", ["reasons"]),
    ],
)
def test_each_part_of_a_score_that_was_changed_is_named(scored: Policy, recorded_text: bytes, changed: bytes, what: list[str]) -> None:
    answer = decided(scored, says(score=6.0))
    assert recorded_text in answer
    assert [difference.what for difference in decide_again(read_answer(answer.replace(recorded_text, changed)), PAYMENT, scored)] == what


def test_what_was_decided_before_there_were_scores_comes_out_the_same(policy: Policy) -> None:
    answer = decided(policy, says(score=6.0))
    recorded = read_answer(answer)
    assert [set(step) for step in recorded.steps if step["step"] == "decide"] == [{"step", "decision", "fired", "unknown"}]
    assert (b"customerMessage" in answer, recorded.score, recorded.shadow_fired) == (False, None, ())
    assert decide_again(recorded, PAYMENT, policy) == []


def test_another_policy_is_a_difference(policy: Policy) -> None:
    other = compile_policy(TEXT + "# a remark\n", origin="test", tools=TOOLS)
    assert [difference.what for difference in decide_again(read_answer(decided(policy, says())), PAYMENT, other)] == ["policy"]


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b"null", b'{"agentTrace": []}', b'{"agentTrace": [{"step": "decide"}]}'])
def test_an_answer_that_is_none_is_refused(answer: bytes) -> None:
    with pytest.raises(RecordUnreadable):
        read_answer(answer)


def test_attempts_of_a_tool_follow_each_other_and_write_tools_follow_the_slowest() -> None:
    trace = Trace()
    trace.plan(["a", "b"], "v")
    trace.tool("a", 1, "error", 0.004, error="x")
    trace.tool("b", 1, "ok", 0.010, output={})
    trace.tool("a", 2, "ok", 0.003, output={})
    trace.decide("review", [], [])
    trace.tool("c", 1, "ok", 0.001, output={})
    steps = orjson.loads(orjson.dumps(trace.steps))
    assert spans(steps) == [None, Span(0.0, 4.0), Span(0.0, 10.0), Span(4.0, 3.0), None, Span(10.0, 1.0)]
