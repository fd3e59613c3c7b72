"""The trace: what happened to one payment, step by step, as plain dicts that go into the answer and are stored.

It records; it decides nothing. Steps stand in the order in which they ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Trace:
    """One payment's steps. `steps` holds plain JSON values only."""

    __slots__ = ("steps",)

    def __init__(self, steps: Sequence[dict[str, Any]] = ()) -> None:
        self.steps = list(steps)

    def plan(self, tools: Sequence[str], policy_version: str) -> None:
        """The READ tools that are about to be called, and the policy that will judge what they say."""
        self.steps.append({"step": "plan", "tools": list(tools), "policyVersion": policy_version})

    def tool(
        self, tool: str, attempt: int, status: str, seconds: float, *, output: Mapping[str, Any] | None = None, error: str | None = None
    ) -> None:
        """One attempt: `ok` with its output, or `error`, `timeout`, `invalid`, `skipped` with its code."""
        step: dict[str, Any] = {"step": "tool", "tool": tool, "attempt": attempt, "status": status, "durationMs": round(seconds * 1000, 2)}
        if output is not None:
            step["output"] = output
        if error is not None:
            step["error"] = error
        self.steps.append(step)

    def fallback(self, tool: str, on_failure: str) -> None:
        """No attempt of the tool gave an answer: the verdict is at least `on_failure` (`ignore` leaves it as it is)."""
        self.steps.append({"step": "fallback", "tool": tool, "onFailure": on_failure})

    def decide(
        self,
        decision: str,
        fired: Sequence[str],
        unknown: Sequence[str],
        *,
        score: int | None = None,
        score_max: int | None = None,
        shadow_fired: Sequence[str] = (),
        shadow_unknown: Sequence[str] = (),
    ) -> None:
        """The verdict, the rules that fired, and those that could not be evaluated because a tool gave no answer.

        Under a policy with scores also their sum, and what it could be if it is not certain; of shadow rules those that had something to say.
        """
        step: dict[str, Any] = {"step": "decide", "decision": decision, "fired": list(fired), "unknown": list(unknown)}
        if score is not None:
            step["score"] = score
            if score_max != score:
                step["scoreMax"] = score_max
        if shadow_fired:
            step["shadowFired"] = list(shadow_fired)
        if shadow_unknown:
            step["shadowUnknown"] = list(shadow_unknown)
        self.steps.append(step)

    def settle(self, status: str, decision: str, *, reason: str | None = None) -> None:
        """How the settle ended (`settled` or `overruled`, and then for which reason), and the decision that holds."""
        step = {"step": "settle", "status": status, "decision": decision}
        self.steps.append(step if reason is None else {**step, "reason": reason})

    def copy(self) -> Trace:
        """The same steps so far, to be finished in another way: the settle is handed two finished answers."""
        return Trace(self.steps)
