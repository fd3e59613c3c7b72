"""Percentiles, processor times and counters mean what they say."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.measures import metrics
from bench.measures.figures import median_of, percentile
from bench.measures.processes import cpu_s, members, parse_stat, rss_bytes
from bench.soak import MB, memory

EXPOSITION = """# HELP paynow_decisions_total Payments decided
# TYPE paynow_decisions_total counter
paynow_decisions_total{decision="allow"} 90.0
paynow_decisions_total{decision="review"} 10.0
paynow_store_statements_total{outcome="ok",step="claim"} 8.0
paynow_store_statements_total{outcome="error",step="claim"} 2.0
paynow_store_statements_total{outcome="ok",step="settle"} 5.0
paynow_replays_total 7.0
"""


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.95, 95), (0.99, 99), (0.999, 100), (1, 100), (0.001, 1)])
def test_a_percentile_is_the_nearest_rank(share: float, value: int) -> None:
    assert percentile(range(1, 101), share) == value


def test_a_percentile_of_one_value_is_that_value_and_of_none_nought() -> None:
    assert (percentile([7], 0.5), percentile([7], 0.999), percentile([], 0.5)) == (7, 7, 0)


def test_a_median_is_of_what_is_known() -> None:
    assert median_of([3, None, 1, 2]) == 2
    assert median_of([None, None]) is None


def test_a_programs_name_may_hold_brackets_and_blanks() -> None:
    fields = parse_stat("12 (a) b (c) S 1 12 12 0 -1 4194304 100 200 0 0 5 6 7 8 20 0 1 0")
    assert (fields[0], fields[1], fields[3], fields[13:17]) == ("12", "a) b (c", "1", ["5", "6", "7", "8"])


def test_the_time_of_a_child_that_ended_is_its_parents() -> None:
    before = cpu_s(os.getpid())
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert cpu_s(os.getpid()) - before >= 0.29


def test_a_living_child_is_one_of_the_family() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert {os.getpid(), child.pid} <= set(members(os.getpid()))
        assert rss_bytes(os.getpid()) > rss_bytes(child.pid) > 0
        child.communicate(b"\n")
    assert child.pid not in members(os.getpid())


def test_a_process_that_is_gone_took_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert (cpu_s(child.pid), rss_bytes(child.pid)) == (0, 0)


def test_paynows_counts_are_summed_by_step_and_decision() -> None:
    counts = metrics.parse(EXPOSITION)
    assert counts.decisions == 100
    assert counts.statements == {"claim": 10, "settle": 5}
    assert (counts.per_batch("claim"), counts.per_batch("settle"), counts.per_batch("balance")) == (10, 20, None)
    assert counts.statements_per_decision == pytest.approx(0.15)


def test_what_was_counted_between_two_readings_is_the_difference() -> None:
    before = metrics.Counts(40, {"claim": 4})
    assert metrics.parse(EXPOSITION).since(before) == metrics.Counts(60, {"claim": 6, "settle": 5})


def test_no_decisions_cost_nothing_that_could_be_told() -> None:
    assert metrics.Counts(0, {"claim": 1}).statements_per_decision is None


def test_memory_is_flat_within_half_of_what_lies_between_least_and_most() -> None:
    told = memory([100 * MB, 110 * MB, 90 * MB, 105 * MB])
    assert told["memory_away_percent"] == pytest.approx(10)
    assert (told["memory_first_mb"], told["memory_last_mb"], told["memory_least_mb"], told["memory_most_mb"]) == (100, 105, 90, 110)
