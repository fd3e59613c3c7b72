"""Money in rules: an amount and its currency become integer minor units, exactly or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_samples import OUTPUTS, PAYMENT, faults_of_when, policy, rule

from paynow import money
from paynow.policy.literals import settle_literals


@pytest.mark.parametrize(
    ("literal", "minor"),
    [
        ('minor("250.00", "USD")', 25_000),
        ("minor('250', 'USD')", 25_000),
        ("minor( '250.5' , \"USD\" )", 25_050),
        ("minor('1000', 'JPY')", 1_000),
        ("minor('0.125', 'BHD')", 125),
        ("minor('1.0000', 'CLF')", 10_000),
        ("minor('0', 'USD')", 0),
        ("minor('250.000000', 'USD')", 25_000),
    ],
)
def test_an_amount_becomes_minor_units_of_its_currency(literal, minor):
    settled = settle_literals(f"x > {literal} && y")
    assert settled.text.split("&&")[0].split() == ["x", ">", str(minor)]
    assert settled.slips == ()


@settings(deadline=None)
@given(st.integers(0, money.AMOUNT_MINOR_MAX), st.sampled_from(sorted(money.exponents())))
def test_every_amount_of_every_currency_keeps_its_value_and_its_place(amount_minor, currency):
    text = f'a == minor("{money.to_text(amount_minor, currency)}", "{currency}") || b'
    settled = settle_literals(text)
    assert int(settled.text[5:-5]) == amount_minor
    assert len(settled.text) == len(text)
    assert settled.text.endswith(" || b")


@pytest.mark.parametrize(
    ("literal", "message"),
    [
        ("minor('250.001', 'USD')", '"250.001" has more decimals than USD, which has 2'),
        ("minor('0.5', 'JPY')", '"0.5" has more decimals than JPY, which has 0'),
        ("minor('1', 'usd')", '"usd" is no currency code of ISO 4217 that has minor units'),
        ("minor('1', 'XAU')", '"XAU" is no currency code of ISO 4217 that has minor units'),
        ("minor('-1', 'USD')", 'the amount must be digits in quotes, with a point before the decimals: "250.00"'),
        ("minor('1e3', 'USD')", 'the amount must be digits in quotes, with a point before the decimals: "250.00"'),
        ("minor('1,000', 'USD')", 'the amount must be digits in quotes, with a point before the decimals: "250.00"'),
        ("minor('', 'USD')", 'the amount must be digits in quotes, with a point before the decimals: "250.00"'),
        ("minor('10000000000000.01', 'USD')", "no payment is larger than 10000000000000.00 USD"),
        ("minor(250, 'USD')", 'minor() takes two texts in quotes, an amount and its currency: minor("250.00", "USD")'),
        ("minor(payment.currency, 'USD')", 'minor() takes two texts in quotes, an amount and its currency: minor("250.00", "USD")'),
        ("minor('250')", 'minor() takes two texts in quotes, an amount and its currency: minor("250.00", "USD")'),
    ],
)
def test_what_is_no_exact_amount_is_refused(literal, message):
    assert faults_of_when(f"payment.currency == 'USD' && payment.amount_minor > {literal}") == [message]


@pytest.mark.parametrize(
    "text",
    [
        "payment.payee_id == \"minor('1', 'USD')\"",
        "payment.payee_id == r'\\' || payment.payee_id == \"minor('1', 'USD')\"",
        'payment.payee_id == \'it\\\'s minor("1", "USD")\'',
        "true // minor('1', 'USD')",
        '"""a"minor(\'1\', \'USD\')""" == payment.payee_id',
        "xminor('1', 'USD')",
        "a.minor('1', 'USD')",
    ],
)
def test_amounts_in_texts_comments_and_other_names_are_left_alone(text):
    assert settle_literals(text).text == text


def test_amounts_after_a_raw_text_that_ends_in_a_backslash_are_found():
    text = "payment.payee_id == r'\\' || payment.amount_minor > minor('1', 'USD')"
    assert settle_literals(text).text.rstrip() == "payment.payee_id == r'\\' || payment.amount_minor > 100"


def test_a_rule_with_an_amount_must_say_for_which_currency_it_is():
    message = 'this amount is in USD, so the rule must say for which payments it is: payment.currency == "USD" && …'
    assert faults_of_when("payment.amount_minor > minor('250', 'USD')") == [message]
    assert faults_of_when("payment.currency == 'EUR' && payment.amount_minor > minor('250', 'USD')") == [message]
    assert faults_of_when("getDevice.label == 'USD' && payment.amount_minor > minor('250', 'USD')") == [message]


def test_one_rule_may_hold_amounts_of_several_currencies():
    large = policy(
        rule(
            "(payment.currency == 'USD' && payment.amount_minor > minor('250', 'USD'))"
            " || (payment.currency in ['JPY'] && payment.amount_minor > minor('30000', 'JPY'))"
        )
    )
    cases = [("USD", 25_000, False), ("USD", 25_001, True), ("JPY", 30_000, False), ("JPY", 30_001, True), ("EUR", 10**9, False)]
    for currency, amount_minor, fires in cases:
        fired = large.evaluate(replace(PAYMENT, currency=currency, amount_minor=amount_minor), OUTPUTS, {}).fired
        assert (fired == ("r",)) is fires
