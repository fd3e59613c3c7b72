"""Times, rates and hints as people write them."""

from __future__ import annotations

import pytest

from paynow.settings.notation import did_you_mean, duration_s, rate_per_s


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800), ("0s", 0)])
def test_a_time_is_read_in_seconds(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "7 d", "-7d", "1.5h", "7D", "7w", "7d\n", "٧d", "1h30m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time like 90s, 15m, 12h or 7d"):
        duration_s(text)


@pytest.mark.parametrize(("text", "rate"), [("5/s", 5), ("120/m", 2), ("7200/h", 2), ("86400/d", 1)])
def test_a_rate_is_read_per_second(text: str, rate: float) -> None:
    assert rate_per_s(text) == rate


@pytest.mark.parametrize("text", ["", "5", "5/", "/s", "0/s", "-5/s", "5/w", "5 / s", "5/s\n", "0.5/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a rate like 5/s"):
        rate_per_s(text)


def test_the_nearest_name_is_found_whatever_its_capitals() -> None:
    assert did_you_mean("GETBALNCE", ["getRiskSignals", "getBalance"]) == "did you mean getBalance?"
    assert did_you_mean("info", ["INFO", "ERROR"]) == "did you mean INFO?"


def test_without_a_near_name_all_are_told() -> None:
    assert did_you_mean("x", ["port", "host"]) == "known here: host, port"
    assert did_you_mean("x", []) == "known here: none"
