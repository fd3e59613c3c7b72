"""How urgent a case is: amount, score and what was missing, each a step."""

from __future__ import annotations

from uuid import UUID

import pytest

from paynow.cases.terms import Terms, terms_of
from paynow.plugin_api import Payment
from paynow.settings import CaseSettings
from paynow.settings.load import load

SETTINGS = CaseSettings(due_h=(48, 24, 0.5), amount_bands=(("USD", 100_000), ("USD", 1_000_000), ("JPY", 150_000)), score_bands=(50, 80))
HOUR = 3600


def terms(amount_minor: int, currency: str = "USD", *, degraded: bool = False, score: int | None = None) -> Terms:
    return terms_of(SETTINGS, Payment(UUID(int=1), "c_1", "p_1", amount_minor, currency), degraded=degraded, score=score)


@pytest.mark.parametrize(
    ("amount_minor", "currency", "priority"),
    [(99_999, "USD", 0), (100_000, "USD", 1), (999_999, "USD", 1), (1_000_000, "USD", 2), (150_000, "JPY", 1), (10**12, "EUR", 0)],
)
def test_each_amount_that_is_reached_in_the_payments_currency_is_a_step(amount_minor: int, currency: str, priority: int) -> None:
    assert terms(amount_minor, currency).priority == priority


def test_a_failed_tool_and_each_score_that_is_reached_are_steps_too() -> None:
    assert terms(1, degraded=True).priority == 1
    assert [terms(1, score=score).priority for score in (None, -5, 49, 50, 80)] == [0, 0, 0, 1, 2]
    assert terms(1_000_000, degraded=True, score=99).priority == 5


def test_the_last_due_time_is_for_all_that_is_more_urgent() -> None:
    assert [terms(amount).due_s for amount in (1, 100_000, 1_000_000)] == [48 * HOUR, 24 * HOUR, HOUR // 2]
    assert terms(1_000_000, degraded=True, score=99).due_s == HOUR // 2


def test_the_shipped_settings_are_amounts_of_money() -> None:
    settings = load(None, {}).settings.cases
    assert ("USD", 100_000) in settings.amount_bands
    assert ("JPY", 150_000) in settings.amount_bands
    assert settings.due_h == (48.0, 24.0, 8.0, 4.0)


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("DUE_H", "[1, 0.5]", (1.0, 0.5)),
        ("DUE_H", "12,6", (12.0, 6.0)),
        ("AMOUNT_BANDS", "1000 USD, 5000.50 EUR", (("USD", 100_000), ("EUR", 500_050))),
        ("AMOUNT_BANDS", "[]", ()),
        ("SCORE_BANDS", "50,80", (50, 80)),
    ],
)
def test_lists_may_stand_in_a_variable(variable: str, text: str, value: tuple) -> None:
    assert getattr(load(None, {f"PAYNOW_CASES__{variable}": text}).settings.cases, variable.lower()) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DUE_H", "[]"),
        ("DUE_H", "soon"),
        ("DUE_H", "[0]"),
        ("DUE_H", "[true]"),
        ("AMOUNT_BANDS", "1000"),
        ("AMOUNT_BANDS", "1000 usd"),
        ("AMOUNT_BANDS", "1000 ABC"),
        ("AMOUNT_BANDS", "0.5 JPY"),
        ("SCORE_BANDS", "1.5"),
        ("SCORE_BANDS", str(list(range(21)))),
    ],
)
def test_what_is_no_such_list_stops_the_start(variable: str, text: str) -> None:
    from paynow.errors import ConfigurationRefused

    with pytest.raises(ConfigurationRefused) as refused:
        load(None, {f"PAYNOW_CASES__{variable}": text})
    (fault,) = refused.value.faults
    assert (fault.key, fault.message[:13]) == (f"cases.{variable.lower()}", "expected a li")
