"""What a stored answer tells of its decision: read back from the trace, laid out in time, and decided again by the same policy. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from paynow.errors import PayNowError
from paynow.payments.answer import INSUFFICIENT_FUNDS
from paynow.plugin_api import Payment
from paynow.policy import Policy, Reason


class RecordUnreadable(PayNowError):
    """The stored answer is not one that PayNow writes."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision as it was recorded. `decided` is the policy's verdict, which the settle may have overruled; `decision` is what holds.

    `outputs` and `floors` are what the policy was handed: what the tools said, and the fallbacks of those that gave no answer.
    """

    decision: str
    reasons: tuple[Reason, ...]
    degraded: bool
    policy_version: str
    decided_at: str
    steps: tuple[dict[str, Any], ...]
    outputs: Mapping[str, Mapping[str, Any]]
    floors: Mapping[str, str]
    decided: str
    fired: tuple[str, ...]
    unknown: tuple[str, ...]
    score: int | None
    score_max: int | None
    shadow_fired: tuple[str, ...]
    shadow_unknown: tuple[str, ...]
    overruled: bool
    acts_failed: frozenset[str]
    """WRITE tools of which no attempt succeeded."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that was recorded otherwise than it comes out now."""

    what: str
    recorded: str
    again: str


@dataclass(frozen=True, slots=True)
class Span:
    """When a tool's attempt ran, in milliseconds since the tools were called. Waits between attempts are not recorded and count as nothing."""

    start_ms: float
    duration_ms: float


class Heard(NamedTuple):
    """What the policy was handed, what it said (the step `decide`), and whether the settle overruled it."""

    outputs: dict[str, dict[str, Any]]
    floors: dict[str, str]
    verdict: Mapping[str, Any]
    at: int
    overruled: bool


def heard(steps: Sequence[Mapping[str, Any]]) -> Heard:
    """The part of a trace that is needed to decide again. Raises `KeyError` or `TypeError` if it is none."""
    outputs: dict[str, dict[str, Any]] = {}
    floors: dict[str, str] = {}
    for at, step in enumerate(steps):
        kind = step["step"]
        if kind == "tool":
            if step["status"] == "ok":
                outputs[step["tool"]] = step["output"]
        elif kind == "fallback":
            floors[step["tool"]] = step["onFailure"]
        elif kind == "decide":
            settle = steps[-1]
            return Heard(outputs, floors, step, at, settle["step"] == "settle" and settle["status"] == "overruled")
    raise KeyError("decide")


def read_answer(answer: bytes | str) -> Recorded:
    """The decision that a stored answer records. Raises `RecordUnreadable`."""
    try:
        document = orjson.loads(answer)
        steps = tuple(document["agentTrace"])
        outputs, floors, verdict, at, overruled = heard(steps)
        acts = {step["tool"]: step["status"] for step in steps[at:] if step["step"] == "tool"}  # of each tool the last attempt
        return Recorded(
            decision=document["decision"],
            reasons=tuple(Reason(reason["code"], reason["message"], reason.get("customerMessage")) for reason in document["reasons"]),
            degraded=document["degraded"],
            policy_version=document["policyVersion"],
            decided_at=document["decidedAt"],
            steps=steps,
            outputs=outputs,
            floors=floors,
            decided=verdict["decision"],
            fired=tuple(verdict["fired"]),
            unknown=tuple(verdict["unknown"]),
            score=verdict.get("score"),
            score_max=verdict.get("scoreMax", verdict.get("score")),
            shadow_fired=tuple(verdict.get("shadowFired", ())),
            shadow_unknown=tuple(verdict.get("shadowUnknown", ())),
            overruled=overruled,
            acts_failed=frozenset(name for name, status in acts.items() if status != "ok"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RecordUnreadable(f"the stored answer cannot be read: {type(error).__name__}") from error


def decide_again(recorded: Recorded, payment: Payment, policy: Policy) -> list[Difference]:
    """Runs the policy on what was recorded and compares; nothing if everything comes out the same.

    The settle overrules an allow for which the money is gone. That is no matter of the policy: it is applied to the new verdict as it was to the old.
    """
    again = policy.evaluate(payment, recorded.outputs, recorded.floors)
    decision, reasons = again.decision, again.reasons
    if recorded.overruled and decision == "allow":
        decision, reasons = "block", (INSUFFICIENT_FUNDS,)
    compared = (
        ("policy", recorded.policy_version, policy.version),
        ("verdict", recorded.decided, again.decision),
        ("rules that fired", _listed(recorded.fired), _listed(again.fired)),
        ("rules that could not be evaluated", _listed(recorded.unknown), _listed(again.unknown)),
        ("score", _scored(recorded.score, recorded.score_max), _scored(again.score, again.score_max)),
        ("shadow rules that fired", _listed(recorded.shadow_fired), _listed(again.shadow_fired)),
        ("shadow rules that could not be evaluated", _listed(recorded.shadow_unknown), _listed(again.shadow_unknown)),
        ("decision", recorded.decision, decision),
        ("reasons", _spoken(recorded.reasons), _spoken(reasons)),
        ("degraded", str(recorded.degraded).lower(), str(bool(recorded.floors)).lower()),
    )
    return [Difference(*one) for one in compared if one[1] != one[2]]


def spans(steps: Sequence[Mapping[str, Any]]) -> list[Span | None]:
    """For each step when it ran; None for what takes no time. READ tools start together, WRITE tools when the last of them has ended."""
    begin_ms = 0.0
    ends_ms: dict[str, float] = {}
    found: list[Span | None] = []
    for step in steps:
        if step["step"] == "decide":
            begin_ms = max(ends_ms.values(), default=0.0)
            ends_ms = {}
        if step["step"] != "tool":
            found.append(None)
            continue
        span = Span(ends_ms.get(step["tool"], begin_ms), float(step["durationMs"]))
        ends_ms[step["tool"]] = span.start_ms + span.duration_ms
        found.append(span)
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _scored(score: int | None, score_max: int | None) -> str:
    return "none" if score is None else f"{score}" if score == score_max else f"{score}, at most {score_max}"


def _spoken(reasons: Sequence[Reason]) -> str:
    return "; ".join(f"{reason.code} ({' | '.join(filter(None, (reason.message, reason.customer_message)))})" for reason in reasons) or "none"
