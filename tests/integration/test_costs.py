"""No decision costs much more than when its costs were last recorded, in counts that do not depend on the machine's mood."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from bench import costs
from bench.costs import Costs
from bench.stage import private_stage

ALLOWED = {"statements_alone": 1.0, "flushes_alone": 1.25, "statements_together": 1.6, "flushes_together": 1.6, "calls_together": 1.15}
"""Times what was recorded. How many payments share a statement depends a little on which of the two is the faster today, PayNow or PostgreSQL."""


@pytest.fixture(scope="module")
def measured() -> Costs:
    with private_stage() as stage:
        return costs.measure(stage)


@pytest.mark.parametrize("cost", sorted(ALLOWED))
def test_a_decision_costs_no_more_than_was_recorded(measured: Costs, cost: str) -> None:
    most = round(asdict(costs.recorded())[cost] * ALLOWED[cost], 2)
    assert round(asdict(measured)[cost], 2) <= most, f"make bench ARGS=costs tells all of them; --record is for those that are worth it: {measured}"
