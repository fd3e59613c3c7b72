"""The trace as it stands in the answer."""

from __future__ import annotations

import orjson

from paynow.agent import Trace


def test_the_steps_are_those_of_the_contract():
    trace = Trace()
    trace.plan(("getBalance", "getRiskSignals"), "sha256:00ff")
    trace.tool("getBalance", 1, "error", 0.0012345, error="no_luck")
    trace.tool("getBalance", 2, "ok", 0.002, output={"available_minor": 5})
    trace.fallback("getRiskSignals", "review")
    trace.decide("review", ["velocity_1m"], ["new_payee_large_amount"])
    trace.settle("settled", "review")
    assert trace.steps == [
        {"step": "plan", "tools": ["getBalance", "getRiskSignals"], "policyVersion": "sha256:00ff"},
        {"step": "tool", "tool": "getBalance", "attempt": 1, "status": "error", "durationMs": 1.23, "error": "no_luck"},
        {"step": "tool", "tool": "getBalance", "attempt": 2, "status": "ok", "durationMs": 2.0, "output": {"available_minor": 5}},
        {"step": "fallback", "tool": "getRiskSignals", "onFailure": "review"},
        {"step": "decide", "decision": "review", "fired": ["velocity_1m"], "unknown": ["new_payee_large_amount"]},
        {"step": "settle", "status": "settled", "decision": "review"},
    ]
    assert orjson.loads(orjson.dumps(trace.steps)) == trace.steps


def test_the_verdict_has_scores_and_shadow_rules_only_where_there_are_some():
    trace = Trace()
    trace.decide("allow", [], [], score=0, score_max=0)
    trace.decide("review", ["a"], ["b"], score=20, score_max=60, shadow_fired=["c"], shadow_unknown=["d"])
    first, second = trace.steps
    assert first == {"step": "decide", "decision": "allow", "fired": [], "unknown": [], "score": 0}
    assert {name: second[name] for name in ("score", "scoreMax", "shadowFired", "shadowUnknown")} == {
        "score": 20,
        "scoreMax": 60,
        "shadowFired": ["c"],
        "shadowUnknown": ["d"],
    }


def test_a_tool_without_fields_has_an_empty_output_when_it_succeeds():
    trace = Trace()
    trace.tool("note", 1, "ok", 0, output={})
    assert trace.steps[0]["output"] == {}


def test_one_trace_can_be_finished_in_two_ways():
    trace = Trace()
    trace.decide("allow", [], [])
    overruled = trace.copy()
    trace.settle("settled", "allow")
    overruled.settle("settled", "block")
    assert [step.get("decision") for step in trace.steps] == ["allow", "allow"]
    assert [step.get("decision") for step in overruled.steps] == ["allow", "block"]
