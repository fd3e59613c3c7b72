"""The breaker by itself, on a clock moved by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from agent_doubles import SETTINGS, HandTime

from paynow.agent.breaker import Breaker


class Case:
    def __init__(self, **settings) -> None:
        self.time = HandTime()
        self.states: list[str] = []
        defaults = {"breaker_calls_min": 4, "breaker_failures_share": 0.5, "breaker_window_s": 10, "breaker_open_s": 5}
        self.breaker = Breaker(replace(SETTINGS, **defaults | settings), lambda: self.time.now_s, self.states.append)

    def calls(self, *oks: bool) -> None:
        for ok in oks:
            self.breaker.record(self.breaker.admit(), ok=ok)


def test_it_stays_closed_below_the_least_number_of_calls():
    case = Case()
    case.calls(False, False, False)
    assert case.states == []
    case.calls(False)
    assert case.states == ["open"]


def test_it_opens_when_the_share_of_failures_is_reached_and_not_before():
    case = Case()
    case.calls(True, True, True, False, False)
    assert case.breaker.admit() is not None
    case.calls(False)
    assert case.states == ["open"]
    assert case.breaker.admit() is None


def test_only_the_window_counts():
    case = Case()
    case.calls(False, False, False)
    case.time.now_s += 11
    case.calls(False)
    assert case.states == []


def test_successes_that_left_the_window_no_longer_dilute_failures():
    case = Case()
    case.calls(*[True] * 100)
    case.time.now_s += 11
    case.calls(False, False, False, False)
    assert case.states == ["open"]


def test_calls_spread_over_the_window_add_up():
    case = Case()
    for _ in range(4):
        case.calls(False)
        case.time.now_s += 2
    assert case.states == ["open"]


def test_after_its_time_one_probe_may_pass_at_a_time():
    case = Case()
    case.calls(False, False, False, False)
    case.time.now_s += 4.9
    assert case.breaker.admit() is None
    case.time.now_s += 0.2
    assert case.breaker.admit() is not None
    assert [case.breaker.admit() for _ in range(20)] == [None] * 20
    assert case.states == ["open", "half_open"]


def test_a_probe_that_succeeds_closes_it_with_an_empty_window():
    case = Case()
    case.calls(False, False, False, False)
    case.time.now_s += 5
    case.calls(True)
    assert case.states == ["open", "half_open", "closed"]
    case.calls(False, False, False)
    assert case.breaker.state == "closed"


def test_a_probe_that_fails_opens_it_for_the_whole_time_again():
    case = Case()
    case.calls(False, False, False, False)
    case.time.now_s += 5
    case.calls(False)
    assert case.states == ["open", "half_open", "open"]
    case.time.now_s += 4.9
    assert case.breaker.admit() is None


def test_a_probe_that_was_cancelled_makes_room_for_another():
    case = Case()
    case.calls(False, False, False, False)
    case.time.now_s += 5
    case.breaker.forget(case.breaker.admit())
    assert case.breaker.state == "half_open"
    assert case.breaker.admit() is not None
    assert case.breaker.admit() is None


def test_cancelled_calls_count_for_nothing():
    case = Case()
    for _ in range(50):
        case.breaker.forget(case.breaker.admit())
    case.calls(False, False, False)
    assert case.states == []


@pytest.mark.parametrize("ok", [True, False])
def test_a_call_from_before_the_change_says_nothing_about_the_probe(ok):
    case = Case()
    early = case.breaker.admit()
    case.calls(False, False, False, False)
    case.time.now_s += 5
    probe = case.breaker.admit()
    case.breaker.record(early, ok=ok)
    case.breaker.forget(early)
    assert case.breaker.state == "half_open"
    assert case.breaker.admit() is None
    case.breaker.record(probe, ok=True)
    assert case.breaker.state == "closed"


def test_it_can_be_tripped_from_any_state():
    case = Case()
    under_way = case.breaker.admit()
    case.breaker.trip()
    case.breaker.record(under_way, ok=True)
    assert case.breaker.admit() is None
    case.time.now_s += 4
    case.breaker.trip()
    case.time.now_s += 4
    assert case.breaker.admit() is None
    assert case.states == ["open"]
    case.time.now_s += 1
    probe = case.breaker.admit()
    case.breaker.trip()
    case.breaker.record(probe, ok=True)
    assert case.states == ["open", "half_open", "open"]
    case.time.now_s += 5
    assert case.breaker.admit() is not None


def test_its_memory_does_not_depend_on_the_load():
    case = Case()
    for _ in range(2000):
        case.calls(True)
        case.time.now_s += 0.1
    assert len(case.breaker._window) <= 10
