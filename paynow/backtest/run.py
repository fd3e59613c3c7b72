"""A whole backtest: the past cut into slices, given out to processes, and what they count put together. Its memory does not grow with the past."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from paynow.backtest.evaluating import Backtest
from paynow.backtest.labels import Labels
from paynow.backtest.processes import side_by_side, workers_for
from paynow.backtest.tally import Change, Tally
from paynow.plugin_api import Field
from paynow.policy import Policy
from paynow.store.past import Past, Slice, Window, open_past


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a backtest came to. `labels` is how many payments have one, in all."""

    tally: Tally
    candidate: Policy
    workers: int
    labels: int
    seconds: float


def backtest(
    dsn: str,
    candidate: Policy,
    tools: Mapping[str, Mapping[str, Field]],
    window: Window,
    *,
    labels: Labels | None = None,
    workers: int | None = None,
    top_max: int = 10,
    begun: Callable[[int], None] = lambda decisions: None,
    done: Callable[[int], None] = lambda decisions: None,
    export: Callable[[list[Change]], None] | None = None,
) -> Outcome:
    """Judges the decisions of a window by the candidate. Without `labels` those in the database are taken.

    `begun` is told how many decisions there are, `done` how many more are through; `export` is handed every change, in the order of the payment ids.
    Raises `DatabaseFailed`, `WorkerLost`, `LabelsRefused`.
    """
    began = time.monotonic()
    tally = Tally()
    with open_past(dsn) as past:
        if labels is None:
            labels = Labels((UUID(payment_id), label) for payment_id, label in past.labels())
        decisions = past.count(window)
        begun(decisions)
        processes = workers_for(decisions, workers)
        task = Backtest(candidate.text, tools, top_max, export is not None)
        for part in side_by_side(past, dsn, task, _work(past, window, labels), processes):
            tally.add(part, top_max)
            if export is not None and part.changes:
                export(part.changes)
            done(part.decisions)
    return Outcome(tally, candidate, processes, len(labels), time.monotonic() - began)


def _work(past: Past, window: Window, labels: Labels) -> Iterator[tuple[Slice, Mapping[str, str]]]:
    for part in past.slices(window):
        yield part, labels.within(part.first, part.beyond)
