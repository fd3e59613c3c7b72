"""Quantiles as read from buckets."""

from __future__ import annotations

import itertools
import random

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from paynow.observability.readings import BUCKETS_S, bucket_counts, quantile_ms, totals


def counts_of(*seconds: float) -> list[float]:
    histogram = Histogram("t_seconds", "t", registry=CollectorRegistry(), buckets=BUCKETS_S)
    for one in seconds:
        histogram.observe(one)
    return list(bucket_counts(*histogram.collect(), lambda _: "all")["all"])


def test_buckets_reach_from_one_millisecond_to_ten_seconds_in_steps_of_half_as_much_again() -> None:
    assert (BUCKETS_S[0], BUCKETS_S[-1]) == (0.001, 10.0)
    assert all(b / a <= 1.5 + 1e-9 for a, b in itertools.pairwise(BUCKETS_S) if b <= 1.0)
    assert list(BUCKETS_S) == sorted(set(BUCKETS_S))
    assert 20 <= len(BUCKETS_S) <= 28


def test_a_quantile_is_interpolated_within_its_bucket() -> None:
    assert quantile_ms(counts_of(*[0.025] * 10), 0.5) == 25.0
    assert quantile_ms(counts_of(*[0.0005] * 4), 0.25) == 0.25
    assert quantile_ms(counts_of(*[0.0005] * 50, *[0.05] * 50), 0.95) == 58.0


def test_nothing_observed_is_zero() -> None:
    assert quantile_ms([0.0] * 27, 0.95) == 0.0
    assert quantile_ms((), 0.95) == 0.0


def test_beyond_the_last_bound_the_last_bound_is_told() -> None:
    assert quantile_ms(counts_of(60.0), 0.5) == 10_000


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_a_quantile_is_off_by_no_more_than_its_bucket(q: float) -> None:
    drawn = random.Random(7)
    times = sorted(drawn.lognormvariate(-3.5, 0.8) for _ in range(5000))
    true_ms = times[int(q * len(times))] * 1000
    assert true_ms / 1.5 < quantile_ms(counts_of(*times), q) < true_ms * 1.5


def test_series_with_the_same_name_are_added_up_and_those_without_one_left_out() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("h_seconds", "h", ["a"], registry=registry, buckets=BUCKETS_S)
    counter = Counter("c", "c", ["a"], registry=registry)
    for label in ("x", "y", "z"):
        histogram.labels(label).observe(0.002)
        counter.labels(label).inc(2)
    name = {"x": "kept", "y": "kept", "z": None}
    assert bucket_counts(*histogram.collect(), lambda labels: name[labels["a"]])["kept"][-1] == 2
    assert totals(*counter.collect(), lambda labels: name[labels["a"]]) == {"kept": 4}
