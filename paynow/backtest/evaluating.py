"""A candidate policy over a slice of the past: each recorded decision is judged again from what its tools said, and counted.

Compared is what holds: the verdicts after the fallbacks of tools that failed, and after a settle that found the money gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from paynow.backtest.tally import Cell, Change, Tally, largest
from paynow.payments.recorded import Heard, heard
from paynow.plugin_api import Field, Payment
from paynow.policy import Evaluation, Policy, compile_policy
from paynow.policy.model import PAYMENT
from paynow.store.past import Past, PastDecision, Slice

_ANY_ID = UUID(int=0)
"""No rule can read a payment's id, and making one of its text takes as long as a quarter of a small policy."""


@dataclass(slots=True)
class Backtest:
    """The task of a process. `tools` are the outputs against which the candidate was checked; `keep_changes` asks for every change, to export."""

    text: str
    tools: Mapping[str, Mapping[str, Field]]
    top_max: int
    keep_changes: bool
    _past: Past | None = field(default=None, init=False)
    _policy: Policy | None = field(default=None, init=False)

    def begin(self, past: Past) -> None:
        """Compiles the candidate."""
        self._past = past
        self._policy = compile_policy(self.text, origin="candidate", tools=self.tools)

    def __call__(self, work: tuple[Slice, Mapping[str, str]]) -> Tally:
        """The tally of a slice, which comes with the labels of its payments."""
        assert self._past is not None
        assert self._policy is not None
        part, labels = work
        return tally_of(self._past.decisions(part), self._policy, self.tools, labels, top_max=self.top_max, keep_changes=self.keep_changes)


def tally_of(
    rows: Iterable[PastDecision],
    policy: Policy,
    tools: Mapping[str, Mapping[str, Field]],
    labels: Mapping[str, str],
    *,
    top_max: int,
    keep_changes: bool = False,
) -> Tally:
    """What some recorded decisions come to under a policy that was compiled against `tools`."""
    tally = Tally()
    changes: list[Change] = []
    names_of = {rule.id: rule.names for rule in policy.rules}
    cells: dict[tuple[str, str, str, str | None], list[int]] = {}
    for row in rows:
        tally.decisions += 1
        try:
            document = orjson.loads(row.answer)
            told = heard(document["agentTrace"])
            fired_recorded = told.verdict["fired"]
            decided_at = document["decidedAt"]
            payment = Payment(_ANY_ID, row.customer_id, row.payee_id, row.amount_minor, row.currency)
            evaluation = policy.evaluate(payment, told.outputs, told.floors)
        except (ValueError, KeyError, TypeError, AttributeError):
            tally.unreadable += 1
            continue
        candidate = "block" if told.overruled and evaluation.decision == "allow" else evaluation.decision
        unsure = bool(evaluation.unknown) and _count_unknown(tally, evaluation, told, names_of, tools)
        if fired_recorded:
            tally.fired_recorded.update(fired_recorded)
        if evaluation.fired:
            tally.fired.update(evaluation.fired)
        label = labels.get(row.payment_id)
        cell = cells.setdefault((row.decision, candidate, row.currency, label), [0, 0, 0])
        cell[0] += 1
        cell[1] += row.amount_minor
        cell[2] += unsure
        if candidate != row.decision:
            changes.append(_change(row, decided_at, candidate, unsure, fired_recorded, evaluation, label))
    for key, (count, amount_minor, unsure_count) in cells.items():
        place = Cell(*key)
        tally.counts[place], tally.amounts_minor[place], tally.unsures[place] = count, amount_minor, unsure_count
        tally.unsure += unsure_count
    tally.changed = len(changes)
    for currency in {change.currency for change in changes}:
        tally.top[currency] = largest((change for change in changes if change.currency == currency), top_max)
    tally.changes = changes if keep_changes else []
    return tally


def _count_unknown(
    tally: Tally, evaluation: Evaluation, told: Heard, names_of: Mapping[str, frozenset[str]], tools: Mapping[str, Mapping[str, Field]]
) -> bool:
    """Counts the rules that could not be told; whether one of them lacks a value, though its tool did not fail: it was not in the plan, said
    less at the time, or said it as another kind."""
    unsure = False
    tally.unknown.update(evaluation.unknown)
    for rule in evaluation.unknown:
        for name in names_of[rule]:
            tool, _, said = name.partition(".")
            if tool != PAYMENT and tool not in told.floors and type(told.outputs.get(tool, {}).get(said)) is not tools[tool][said].kind:
                tally.lacking[rule, name] += 1
                unsure = True
    return unsure


def _change(
    row: PastDecision,
    decided_at: str,
    candidate: str,
    unsure: bool,
    fired_recorded: list[str],
    evaluation: Evaluation,
    label: str | None,
) -> Change:
    return Change(
        row.payment_id,
        decided_at,
        row.customer_id,
        row.payee_id,
        row.amount_minor,
        row.currency,
        row.decision,
        candidate,
        unsure,
        tuple(fired_recorded),
        evaluation.fired,
        label,
    )
