"""An explanation as a document: the steps in time, the rules with their values, and what would have changed the verdict. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from paynow.errors import ConfigurationRefused
from paynow.explain.again import PastPolicies, verify_recorded
from paynow.explain.counterfactual import Alteration, Counterfactual, Search, search
from paynow.explain.wording import claim_text
from paynow.payments.recorded import Recorded, spans
from paynow.plugin_api import Field, Payment
from paynow.policy import Policy
from paynow.policy.model import PAYMENT

OVERRULED = "the policy allowed it; the settle found the money gone, and nothing that rules read would have changed that"


def explanation(payment: Payment, recorded: Recorded, policies: PastPolicies, fields: Mapping[str, Mapping[str, Field]]) -> dict[str, Any]:
    """Why the decision is what it is. `fields` are the outputs that tools declare now."""
    differences = verify_recorded(payment, recorded, policies)
    document: dict[str, Any] = {
        "timeline": list(_timeline(recorded)),
        "rules": [],
        "changes": [],
        "searched": {"evaluations": 0, "complete": True, "notes": []},
        "verified": {
            "same": not differences,
            "differences": [{"what": one.what, "recorded": one.recorded, "again": one.again} for one in differences],
        },
    }
    try:
        policy = policies.of(recorded.policy_version, recorded.outputs)
    except ConfigurationRefused:
        policy = None  # the differences say so
    if policy is not None:
        document["rules"] = list(_rules(policy, payment, recorded))
        found = Search((), 0, True, (OVERRULED,)) if recorded.overruled else search(policy, payment, recorded.outputs, recorded.floors, fields)
        document["changes"] = [_claim(claim, payment.currency) for claim in found.found]
        document["searched"] = {"evaluations": found.evaluations, "complete": found.complete, "notes": list(found.notes)}
    return document


def _timeline(recorded: Recorded) -> Iterator[dict[str, Any]]:
    """The attempts of tools, each where it stood in time, in milliseconds since the first was called."""
    for step, span in zip(recorded.steps, spans(recorded.steps), strict=True):
        if span is not None:
            entry = {"tool": step["tool"], "attempt": step["attempt"], "status": step["status"], "startMs": round(span.start_ms, 2)}
            yield {**entry, "durationMs": round(span.duration_ms, 2), **({"error": step["error"]} if "error" in step else {})}


def _rules(policy: Policy, payment: Payment, recorded: Recorded) -> Iterator[dict[str, Any]]:
    """Each rule, shadow rules too, with its value and those of the names that it reads; of a name that nothing was said of, null."""
    evaluation = policy.evaluate(payment, recorded.outputs, recorded.floors)
    true = {*evaluation.fired, *evaluation.shadow_fired}
    unknown = {*evaluation.unknown, *evaluation.shadow_unknown}
    for rule in policy.rules:
        yield {
            "id": rule.id,
            "mode": "enforce" if rule.enforced else "shadow",
            **({"score": rule.score} if rule.then is None else {"then": rule.then}),
            "when": rule.when,
            "message": rule.reason.message,
            "value": "true" if rule.id in true else "unknown" if rule.id in unknown else "false",
            "values": {name: _value(name, payment, recorded) for name in sorted(rule.names)},
        }


def _value(name: str, payment: Payment, recorded: Recorded) -> Any:
    tool, _, field = name.partition(".")
    return getattr(payment, field) if tool == PAYMENT else recorded.outputs.get(tool, {}).get(field)


def _claim(claim: Counterfactual, currency: str) -> dict[str, Any]:
    return {"decision": claim.decision, "text": claim_text(claim, currency), "if": [_alteration(one) for one in claim.alterations]}


def _alteration(one: Alteration) -> dict[str, Any]:
    """A value, or the ends of a range; an end that is missing is where the values end."""
    told: dict[str, Any] = {"name": one.name, "recorded": one.recorded}
    if one.low == one.high:
        return {**told, "value": one.low}
    return {**told, **({} if one.least else {"atLeast": one.low}), **({} if one.most else {"atMost": one.high})}
