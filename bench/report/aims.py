"""What is asked of PayNow, each as a figure with a limit; and for those that are missed what bounds them (`bounds.toml`, written by hand)."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Document = dict[str, Any]
BOUNDS = Path(__file__).with_name("bounds.toml")


@dataclass(frozen=True, slots=True)
class Aim:
    """`figure` takes it out of the results; None: it was not measured."""

    name: str
    sentence: str
    limit: float
    least: bool
    unit: str
    figure: Callable[[Document], float | None]

    def met(self, value: float) -> bool:
        """Whether the figure keeps the limit."""
        return value >= self.limit if self.least else value <= self.limit

    def limit_text(self) -> str:
        """The limit as it is read: `≥ 0.50`, `≤ 15 ms`."""
        return f"{'≥' if self.least else '≤'} {number(self.limit)}{self.unit}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An aim with what was measured; `bound` says why it was missed, if it was."""

    aim: Aim
    value: float
    met: bool
    bound: str


def number(value: float) -> str:
    """Three digits that count, no more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ratio(document: Document, rival: str, ours: str = "paynow") -> float | None:
    """How many times the rival's throughput PayNow reached, by their medians."""
    rivals = found(document, "comparison").get("rivals", {})
    if ours not in rivals or rival not in rivals:
        return None
    theirs = rivals[rival]["median"]["decisions_per_s"]
    return rivals[ours]["median"]["decisions_per_s"] / theirs if theirs else None


def open_loop(document: Document, share: float, key: str) -> float | None:
    """A figure of the open loop at that share of the maximum."""
    return next((one[key] for one in found(document, "comparison").get("open_loop", []) if one["share"] == share), None)


def found(document: Document, part: str) -> dict[str, Any]:
    """What a part of the results holds, or nothing."""
    return document.get(part, {}).get("found", {})


def _of(part: str, key: str) -> Callable[[Document], float | None]:
    return lambda document: found(document, part).get(key)


AIMS = (
    Aim("floor", "throughput against the bare aiohttp floor", 0.5, True, " ×", lambda document: ratio(document, "floor")),
    Aim("pgbench", "throughput against pgbench simple-update", 1.0, True, " ×", lambda document: ratio(document, "pgbench")),
    Aim("unbatched", "throughput against PayNow without batching", 5.0, True, " ×", lambda document: ratio(document, "unbatched")),
    Aim("usual", "throughput against FastAPI + asyncpg", 5.0, True, " ×", lambda document: ratio(document, "usual")),
    Aim("half_p99", "p99 at half of the maximum, open loop", 15.0, False, " ms", lambda document: open_loop(document, 0.5, "p99_ms")),
    Aim("half_p999", "p99.9 at half of the maximum, open loop", 50.0, False, " ms", lambda document: open_loop(document, 0.5, "p999_ms")),
    Aim("large_throughput", "throughput on the filled database against the empty one", 0.9, True, " ×", _of("large", "throughput_ratio")),
    Aim("large_p99", "p99 on the filled database against the empty one", 1.3, False, " ×", _of("large", "p99_ratio")),
    Aim("memory", "the server's memory over the soak, away from its middle", 5.0, False, " %", _of("soak", "memory_away_percent")),
    Aim("overload_p99", "p99 of accepted payments at twice the maximum", 1_000.0, False, " ms", _of("overload", "accepted_p99_ms")),
    Aim("overload_refusal", "p99 of refusals at twice the maximum", 100.0, False, " ms", _of("overload", "refused_p99_ms")),
    Aim("overload_throughput", "throughput at twice the maximum against the maximum", 0.9, True, " ×", _of("overload", "throughput_ratio")),
    Aim("backtest_rate", "decisions judged again in a minute, for each core", 200_000.0, True, "", _of("backtest", "decisions_per_minute_and_core")),
    Aim("shadow_p99", "p99 at half of the maximum with two shadow policies against none", 1.05, False, " ×", _of("shadow", "p99_ratio")),
    Aim("backtest_memory", "memory of a backtest, all its processes", 300.0, False, " MB", _of("backtest", "peak_memory_mb")),
)
"""In the order in which they are shown."""


def verdicts(document: Document, bounds: dict[str, str] | None = None) -> list[Verdict]:
    """Every aim that was measured."""
    told = tomllib.loads(BOUNDS.read_text()) if bounds is None else bounds
    judged = [(aim, aim.figure(document)) for aim in AIMS]
    return [
        Verdict(aim, value, aim.met(value), "" if aim.met(value) else told.get(aim.name, "not explained yet"))
        for aim, value in judged
        if value is not None
    ]
