"""The rate limit headers: whole numbers, windows that are as long as the limit says."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paynow.errors import LimitState
from paynow.http.rate_headers import rate_headers

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def test_the_headers_say_what_the_limit_is_and_what_is_left() -> None:
    assert rate_headers(LimitState("customer", 5.0, 5, 3, 0.4)) == {"RateLimit-Policy": '"customer";q=5;w=1', "RateLimit": '"customer";r=3;t=1'}


@pytest.mark.parametrize("unit_s", UNITS_S.values(), ids=UNITS_S)
def test_a_burst_as_large_as_the_rate_has_the_rates_own_window(unit_s: int) -> None:
    for count in range(1, 2000):
        policy = rate_headers(LimitState("api_key", count / unit_s, count, 0, 0.0))["RateLimit-Policy"]
        assert policy == f'"api_key";q={count};w={unit_s}'


def test_a_larger_burst_has_a_longer_window() -> None:
    assert rate_headers(LimitState("customer", 100 / 60, 200, 0, 0.0))["RateLimit-Policy"] == '"customer";q=200;w=120'


@example(5.0, 5, -1, -0.5)
@given(st.floats(1e-5, 1e6), st.integers(1, 10**6), st.integers(-5, 10**6), st.floats(-1, 1e6))
def test_every_figure_is_a_whole_number_that_is_not_negative(per_second: float, burst: int, remaining: int, reset_s: float) -> None:
    headers = rate_headers(LimitState("customer", per_second, burst, remaining, reset_s))
    assert re.fullmatch(r'"customer";q=[1-9][0-9]*;w=[1-9][0-9]*', headers["RateLimit-Policy"])
    assert re.fullmatch(r'"customer";r=[0-9]+;t=[0-9]+', headers["RateLimit"])
