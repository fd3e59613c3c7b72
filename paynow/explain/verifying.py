"""All decisions of the past decided again, slice by slice, by several processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from paynow.backtest.processes import side_by_side, workers_for
from paynow.explain.again import PastPolicies, verify
from paynow.payments.recorded import Difference
from paynow.plugin_api import Field, Payment
from paynow.store.past import Past, PastDecision, Slice, Window, open_past

SHOWN_MAX = 1_000
"""Decisions that came out otherwise and are kept with what differs; more are counted."""


@dataclass(slots=True)
class Verified:
    """How many decisions were decided again, how many came out otherwise, and the first of those."""

    decisions: int = 0
    different: int = 0
    shown: list[tuple[str, list[Difference]]] = field(default_factory=list)

    def add(self, other: Verified) -> None:
        """Takes in what came later."""
        self.decisions += other.decisions
        self.different += other.different
        self.shown += other.shown[: SHOWN_MAX - len(self.shown)]


@dataclass(slots=True)
class Verify:
    """The task of a process. `declared` are the outputs of the tools that are enabled now."""

    declared: Mapping[str, Mapping[str, Field]]
    _past: Past | None = field(default=None, init=False)
    _policies: PastPolicies | None = field(default=None, init=False)

    def begin(self, past: Past) -> None:
        self._past = past
        self._policies = PastPolicies(self.declared, past.policy)

    def __call__(self, part: Slice) -> Verified:
        assert self._past is not None
        assert self._policies is not None
        found = Verified()
        for row in self._past.decisions(part):
            found.add(_one(row, self._policies))
        return found


def verify_all(
    dsn: str,
    window: Window,
    declared: Mapping[str, Mapping[str, Field]],
    *,
    workers: int | None = None,
    begun: Callable[[int], None] = lambda decisions: None,
    done: Callable[[int], None] = lambda decisions: None,
) -> Verified:
    """Decides all decisions of a window again. `begun` and `done` as for a backtest. Raises `DatabaseFailed`, `WorkerLost`."""
    found = Verified()
    with open_past(dsn) as past:
        decisions = past.count(window)
        begun(decisions)
        for part in side_by_side(past, dsn, Verify(declared), past.slices(window), workers_for(decisions, workers)):
            found.add(part)
            done(part.decisions)
    return found


def verify_these(dsn: str, ids: Sequence[UUID], declared: Mapping[str, Mapping[str, Field]]) -> Verified:
    """Decides these payments again; one that is not there is a difference. Raises `DatabaseFailed`."""
    found = Verified()
    with open_past(dsn) as past:
        policies = PastPolicies(declared, past.policy)
        for payment_id in ids:
            rows = list(past.decisions(Slice(payment_id, payment_id, (str(payment_id),))))
            there = _one(rows[0], policies) if rows else Verified(1, 1, [(str(payment_id), [Difference("payment", "none of that id", "")])])
            found.add(there)
    return found


def _one(row: PastDecision, policies: PastPolicies) -> Verified:
    payment = Payment(UUID(row.payment_id), row.customer_id, row.payee_id, row.amount_minor, row.currency)
    differences = verify(payment, row.decision, row.answer, row.policy_version, policies)
    return Verified(1, 1, [(row.payment_id, differences)]) if differences else Verified(1)
