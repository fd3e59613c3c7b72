"""What shadow policies came to as a document for programs, out of which the terminal's tables are made too. Amounts are text in major units. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paynow.backtest.report import matrix
from paynow.backtest.tally import Cell, Tally
from paynow.clock import rfc3339
from paynow.store.shadows import ReadBehind, RuleCount, ShadowCount


def document(policies: Iterable[ReadBehind], counts: Sequence[ShadowCount], rules: Mapping[str, Sequence[RuleCount]]) -> list[dict[str, Any]]:
    """Of each policy: since when it reads along and how far it is behind, its verdicts beside those decided, and its rules."""
    return [_policy(policy, [count for count in counts if count.version == policy.version], rules[policy.version]) for policy in policies]


def _policy(policy: ReadBehind, counts: Iterable[ShadowCount], rules: Sequence[RuleCount]) -> dict[str, Any]:
    tally = _tally(counts)
    return {
        "version": policy.version,
        "since": rfc3339(policy.counted_from),
        "behindSeconds": round(policy.behind_s, 3),
        "decisions": tally.decisions,
        "changed": tally.changed,
        "unsure": tally.unsure,
        "unreadable": policy.unreadable,
        "matrix": matrix(tally),
        "rules": [{"id": rule.rule, "fired": rule.fired, "unknown": rule.unknown} for rule in rules],
    }


def _tally(counts: Iterable[ShadowCount]) -> Tally:
    tally = Tally()
    for count in counts:
        cell = Cell(count.recorded, count.candidate, count.currency, None)
        tally.counts[cell], tally.unsures[cell], tally.amounts_minor[cell] = count.decisions, count.unsure, int(count.amount_minor)
        tally.decisions += count.decisions
        tally.unsure += count.unsure
        tally.changed += count.decisions if count.recorded != count.candidate else 0
    return tally
