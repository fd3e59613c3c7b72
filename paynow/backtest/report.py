"""A backtest as a document for programs, out of which the terminal's tables are made too. Amounts are text in major units. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from paynow.backtest.run import Outcome
from paynow.backtest.tally import Cell, Change, Tally
from paynow.money import to_text
from paynow.policy import STRICTNESS

STOPS = {"review or block": frozenset({"review", "block"}), "block": frozenset({"block"})}
"""What counts as having caught a payment: two ways to look at it."""


def document(outcome: Outcome) -> dict[str, Any]:
    """All that a backtest came to."""
    tally = outcome.tally
    return {
        "candidate": {"version": outcome.candidate.version, "default": outcome.candidate.default, "rules": len(outcome.candidate.rules)},
        "decisions": tally.decisions,
        "unreadable": tally.unreadable,
        "changed": tally.changed,
        "unsure": tally.unsure,
        "matrix": matrix(tally),
        "rules": _rules(outcome),
        "notRecorded": [{"rule": rule, "name": name, "decisions": count} for (rule, name), count in sorted(tally.lacking.items())],
        "top": [change_json(change) for currency in sorted(tally.top) for change in tally.top[currency]],
        "labels": _labels(tally, outcome.labels),
        "workers": outcome.workers,
        "seconds": round(outcome.seconds, 3),
        "perSecond": round(tally.decisions / outcome.seconds, 1) if outcome.seconds else 0.0,
    }


def change_json(change: Change) -> dict[str, Any]:
    """A payment that is decided otherwise."""
    return {
        "paymentId": change.payment_id,
        "decidedAt": change.decided_at,
        "customerId": change.customer_id,
        "payeeId": change.payee_id,
        "amount": to_text(change.amount_minor, change.currency),
        "currency": change.currency,
        "recorded": change.recorded,
        "candidate": change.candidate,
        "unsure": change.unsure,
        "recordedRules": list(change.recorded_rules),
        "candidateRules": list(change.candidate_rules),
        "label": change.label,
    }


def matrix(tally: Tally) -> list[dict[str, Any]]:
    """Every pair of verdicts that occurs, and for each verdict that it stayed; with the amounts by currency."""
    pairs = {(cell.recorded, cell.candidate) for cell in tally.counts} | {(verdict, verdict) for verdict in STRICTNESS}
    rows = []
    for recorded, candidate in sorted(pairs, key=lambda pair: (STRICTNESS[pair[0]], STRICTNESS[pair[1]])):
        cells = [cell for cell in tally.counts if (cell.recorded, cell.candidate) == (recorded, candidate)]
        rows.append(
            {
                "recorded": recorded,
                "candidate": candidate,
                "decisions": sum(tally.counts[cell] for cell in cells),
                "unsure": sum(tally.unsures[cell] for cell in cells),
                "amounts": _amounts(tally, cells),
            }
        )
    return rows


def _amounts(tally: Tally, cells: Iterable[Cell]) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter()
    minor: Counter[str] = Counter()
    for cell in cells:
        counts[cell.currency] += tally.counts[cell]
        minor[cell.currency] += tally.amounts_minor[cell]
    return [{"currency": currency, "decisions": counts[currency], "amount": to_text(minor[currency], currency)} for currency in sorted(counts)]


def _rules(outcome: Outcome) -> list[dict[str, Any]]:
    """The candidate's rules in its order, then those that fired in the past and that it does not have."""
    tally = outcome.tally
    own = [rule.id for rule in outcome.candidate.rules]
    past = sorted(set(tally.fired_recorded) - set(own))
    return [
        {
            "id": rule,
            "recorded": tally.fired_recorded[rule],
            "candidate": tally.fired[rule] if rule in own else None,
            "unknown": tally.unknown[rule] if rule in own else None,
        }
        for rule in [*own, *past]
    ]


def _labels(tally: Tally, known: int) -> dict[str, Any]:
    """How well the labelled payments were judged, before and now."""
    labelled: Counter[str] = Counter()
    for cell, count in tally.counts.items():
        if cell.label is not None:
            labelled[cell.label] += count
    sides: tuple[tuple[str, Callable[[Cell], str]], ...] = (("recorded", lambda cell: cell.recorded), ("candidate", lambda cell: cell.candidate))
    judged = [{"policy": side, "caughtBy": words, **_judged(tally, verdict, stops)} for words, stops in STOPS.items() for side, verdict in sides]
    return {"known": known, "decisions": dict(sorted(labelled.items())), "judged": judged if labelled.total() else []}


def _judged(tally: Tally, verdict_of: Callable[[Cell], str], stops: frozenset[str]) -> dict[str, Any]:
    """Precision: of what was caught, how much is fraud. Recall: of the fraud, how much was caught. Payments labelled `unclear` count in neither."""
    fraud = [cell for cell in tally.counts if cell.label == "confirmed_fraud"]
    caught = sum(tally.counts[cell] for cell in fraud if verdict_of(cell) in stops)
    missed = sum(tally.counts[cell] for cell in fraud) - caught
    harmless = sum(count for cell, count in tally.counts.items() if cell.label == "false_positive" and verdict_of(cell) in stops)
    return {
        "fraudCaught": caught,
        "fraudMissed": missed,
        "harmlessCaught": harmless,
        "precision": _share(caught, caught + harmless),
        "recall": _share(caught, caught + missed),
        "missedAmounts": _amounts(tally, [cell for cell in fraud if verdict_of(cell) not in stops]),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
