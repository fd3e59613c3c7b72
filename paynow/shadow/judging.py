"""What decisions come to under a candidate, in the form that is counted in the database. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from paynow.backtest.evaluating import tally_of
from paynow.plugin_api import Field
from paynow.policy import Policy
from paynow.store.past import PastDecision
from paynow.store.shadows import RuleCount, VerdictCount


@dataclass(slots=True)
class Judged:
    """What some decisions came to under a candidate: verdicts by the policy that decided, and the candidate's rules over all."""

    decisions: int = 0
    unreadable: int = 0
    verdicts: list[VerdictCount] = field(default_factory=list)
    rules: list[RuleCount] = field(default_factory=list)


def judge(decisions: Iterable[PastDecision], candidate: Policy, tools: Mapping[str, Mapping[str, Field]]) -> Judged:
    """Judges decisions again, from what their tools said, by a candidate that was compiled against `tools`.

    As in a backtest, what holds is compared: the verdicts after the fallbacks of tools that failed, and after a settle that found the money gone.
    """
    by_policy: dict[str, list[PastDecision]] = {}
    for decision in decisions:
        by_policy.setdefault(decision.policy_version, []).append(decision)
    judged = Judged()
    fired: dict[str, int] = {}
    unknown: dict[str, int] = {}
    for policy_version, decided in by_policy.items():
        tally = tally_of(decided, candidate, tools, {}, top_max=0)
        judged.decisions += tally.decisions
        judged.unreadable += tally.unreadable
        for cell, count in tally.counts.items():
            judged.verdicts.append(
                VerdictCount(policy_version, cell.recorded, cell.candidate, cell.currency, count, tally.unsures[cell], tally.amounts_minor[cell])
            )
        for rule, count in tally.fired.items():
            fired[rule] = fired.get(rule, 0) + count
        for rule, count in tally.unknown.items():
            unknown[rule] = unknown.get(rule, 0) + count
    judged.rules = [RuleCount(rule, fired.get(rule, 0), unknown.get(rule, 0)) for rule in sorted({*fired, *unknown})]
    return judged
