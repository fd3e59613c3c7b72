"""Percentiles and medians, plainly."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the values, which are in order, that at least `share` of them do not exceed (nearest rank); 0 of none."""
    if not ordered:
        return 0.0
    rank = max(1, -(-len(ordered) * round(share * 100_000) // 100_000))
    return ordered[rank - 1]


def median_of(values: Sequence[float | None]) -> float | None:
    """The median of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None
