"""What is counted of a backtest: small enough to travel between processes, and the same however the past was cut. Pure."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Cell(NamedTuple):
    """Where a decision is counted: what was recorded, what the candidate says, in which currency, and what an analyst said of it, if anything."""

    recorded: str
    candidate: str
    currency: str
    label: str | None


class Change(NamedTuple):
    """A payment that the candidate decides otherwise. The rules are those that fire; `unsure` as in `Tally`."""

    payment_id: str
    decided_at: str
    customer_id: str
    payee_id: str
    amount_minor: int
    currency: str
    recorded: str
    candidate: str
    unsure: bool
    recorded_rules: tuple[str, ...]
    candidate_rules: tuple[str, ...]
    label: str | None


@dataclass(slots=True)
class Tally:
    """Counts and amounts of decisions. A decision is `unsure` if its record lacks what a rule of the candidate reads: the rule is unknown then,
    which demands a review at least, though the tool itself might have said otherwise."""

    decisions: int = 0
    unsure: int = 0
    unreadable: int = 0
    counts: Counter[Cell] = field(default_factory=Counter)
    amounts_minor: Counter[Cell] = field(default_factory=Counter)
    unsures: Counter[Cell] = field(default_factory=Counter)
    fired_recorded: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    """Rules of the candidate that could not be told, for whatever reason."""
    lacking: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rules with a name that they read and that was not recorded."""
    changed: int = 0
    top: dict[str, list[Change]] = field(default_factory=dict)
    """By currency, the changes with the largest amounts, largest first."""
    changes: list[Change] = field(default_factory=list)
    """All of them, if they were asked for; they are handed on slice by slice and not added up."""

    def add(self, other: Tally, top_max: int) -> None:
        """Takes in what another part of the past came to, all but its `changes`."""
        self.decisions += other.decisions
        self.unsure += other.unsure
        self.unreadable += other.unreadable
        self.changed += other.changed
        for name in ("counts", "amounts_minor", "unsures", "fired_recorded", "fired", "unknown", "lacking"):
            getattr(self, name).update(getattr(other, name))
        for currency, changes in other.top.items():
            self.top[currency] = largest([*self.top.get(currency, ()), *changes], top_max)


def largest(changes: Iterable[Change], top_max: int) -> list[Change]:
    """The changes with the largest amounts, of one currency; of equal ones the oldest first, so that the order is always the same."""
    return heapq.nsmallest(top_max, changes, key=lambda change: (-change.amount_minor, change.payment_id))
