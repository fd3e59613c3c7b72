"""Buckets of durations, and what counters and histograms hold, read back. Knows nothing of what was measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import Metric
from prometheus_client.samples import Sample

BUCKETS_S = tuple(
    ms / 1000
    for ms in (1, 1.5, 2, 3, 4, 6, 8, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1000, 1500, 2500, 5000, 10_000)
)  # fmt: skip
"""Upper bounds in seconds: at most half as much again from one to the next up to a second, so that a p95 is seen to that precision."""

_POSITIONS = {bound_s: position for position, bound_s in enumerate((*BUCKETS_S, float("inf")))}

Counts = Sequence[float]
"""How many observations were not above each bound, infinity last."""


Label = Callable[[Mapping[str, str]], str | None]
"""Makes one name of a series' labels. Series with the same name are added up, those with None are left out."""


def totals(counter: Metric, label: Label) -> dict[str, int]:
    """What a counter holds, by name."""
    counted: dict[str, int] = defaultdict(int)
    for sample in _samples(counter, "_total"):
        if (name := label(sample.labels)) is not None:
            counted[name] += int(sample.value)
    return dict(counted)


def bucket_counts(histogram: Metric, label: Label) -> dict[str, Counts]:
    """What a histogram holds, by name."""
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0] * (len(BUCKETS_S) + 1))
    for sample in _samples(histogram, "_bucket"):
        if (name := label(sample.labels)) is not None:
            counts[name][_POSITIONS[float(sample.labels["le"])]] += sample.value
    return dict(counts)


def _samples(metric: Metric, ending: str) -> Iterator[Sample]:
    return (sample for sample in metric.samples if sample.name.endswith(ending))


def quantile_ms(counts: Counts, q: float) -> float:
    """The quantile in milliseconds, by interpolation within its bucket: 0 of no observations, the last bound (10 s) for all beyond it."""
    if not counts or counts[-1] == 0:
        return 0.0
    rank = q * counts[-1]
    position = next(position for position, count in enumerate(counts) if count >= rank)
    if position == len(BUCKETS_S):
        return BUCKETS_S[-1] * 1000
    below_s, below = (BUCKETS_S[position - 1], counts[position - 1]) if position else (0.0, 0.0)
    share = (rank - below) / (counts[position] - below)
    return round((below_s + (BUCKETS_S[position] - below_s) * share) * 1000, 3)
