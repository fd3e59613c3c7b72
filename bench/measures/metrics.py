"""What PayNow counted, out of its `GET /metrics`."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Counts:
    """Decisions, and the statements by step."""

    decisions: float
    statements: dict[str, float]

    def since(self, before: Counts) -> Counts:
        """What was counted between the two."""
        steps = {step: count - before.statements.get(step, 0) for step, count in self.statements.items()}
        return Counts(self.decisions - before.decisions, steps)

    def per_batch(self, step: str) -> float | None:
        """How many decisions shared a statement of that step, on average."""
        statements = self.statements.get(step, 0)
        return self.decisions / statements if statements else None

    @property
    def statements_per_decision(self) -> float | None:
        """Round trips to PostgreSQL for one decision, all steps together; those of the relay and of chores are among them."""
        return sum(self.statements.values()) / self.decisions if self.decisions else None


def read(port: int, api_key: str) -> Counts:
    """The service's counts as they stand."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"X-API-Key": api_key})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return parse(answer.read().decode())


def parse(exposition: str) -> Counts:
    """The counts in a text of the Prometheus exposition format."""
    decisions = 0.0
    statements: dict[str, float] = {}
    for line in exposition.splitlines():
        found = _SAMPLE.match(line)
        if found is None:
            continue
        labels = dict(_LABEL.findall(found["labels"] or ""))
        if found["name"] == "paynow_decisions_total":
            decisions += float(found["value"])
        elif found["name"] == "paynow_store_statements_total":
            statements[labels["step"]] = statements.get(labels["step"], 0) + float(found["value"])
    return Counts(decisions, statements)
