"""`currency` and `amount`: for which payments a rule is, and what is refused of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from policy_samples import ORIGIN, OUTPUTS, PAYMENT, faults, policy

from paynow.policy.reachability import BRANCHES_MAX


def banded(*keys: str, when: str = "") -> str:
    """A rule with the keys, each on its line from the third on."""
    lines = ["[[rule]]", 'id = "r"', *keys, *([f"when = '''{when}'''"] if when else []), 'then = "review"', 'message = "m"']
    return "\n".join(lines) + "\n"


def fires(text: str, amount_minor: int, currency: str = "USD") -> bool:
    return bool(policy(text).evaluate(replace(PAYMENT, amount_minor=amount_minor, currency=currency), OUTPUTS, {}).fired)


def found(text: str) -> list[tuple[str, str]]:
    return [(fault.origin.removeprefix(f"{ORIGIN}:"), fault.message.split("\n")[0]) for fault in faults(text)]


@pytest.mark.parametrize("written", ['"USD"', '["USD"]', '["EUR", "USD"]'])
def test_a_rule_is_for_its_currencies_only(written):
    text = banded(f"currency = {written}")
    assert [fires(text, 5, currency) for currency in ("USD", "JPY")] == [True, False]


BAND = 'amount = { from = "10.00", below = "20.00" }'


@pytest.mark.parametrize(("amount_minor", "expected"), [(999, False), (1000, True), (1999, True), (2000, False)])
def test_a_band_holds_its_lower_end_and_not_its_upper_one(amount_minor, expected):
    text = banded('currency = ["USD", "EUR"]', BAND)
    assert [fires(text, amount_minor, currency) for currency in ("USD", "EUR", "GBP")] == [expected, expected, False]


@pytest.mark.parametrize(("band", "within"), [('{ from = "10" }', (1000, 10**15)), ('{ below = "10" }', (1, 999))])
def test_a_band_may_be_open_at_one_end(band, within):
    text = banded('currency = "USD"', f"amount = {band}")
    assert [fires(text, amount_minor) for amount_minor in (1, 999, 1000, 10**15)] == [one in within for one in (1, 999, 1000, 10**15)]


def test_each_currency_may_have_its_own_band():
    text = banded('amount.USD = { from = "10.00" }', 'amount.JPY = { from = "1500", below = "2000" }')
    told = [("USD", 999), ("USD", 1000), ("JPY", 1499), ("JPY", 1500), ("JPY", 2000), ("EUR", 5000)]
    assert [fires(text, amount_minor, currency) for currency, amount_minor in told] == [False, True, False, True, False, False]


def test_a_band_written_as_a_table_of_its_own_is_the_same():
    inline = policy(banded('amount.USD = { from = "10.00" }'))
    [rule] = policy(banded() + '[rule.amount.USD]\nfrom = "10.00"\n').rules
    assert rule.when == inline.rules[0].when == 'payment.currency == "USD" && payment.amount_minor >= minor("10.00", "USD")'


def test_condition_and_band_must_both_hold():
    text = banded('currency = "USD"', BAND, when="getDevice.age_days > 30 || getDevice.trusted // either")
    assert [fires(text, 1500), fires(text, 5), fires(text, 1500, "EUR")] == [True, False, False]
    assert not fires(banded('currency = "USD"', BAND, when="!getDevice.trusted"), 1500)


def test_no_bracket_in_a_condition_ends_the_band():
    assert found(banded('currency = "USD"', when="false) || (true")) != []


def test_a_band_is_told_without_the_tools_that_failed():
    text = banded('currency = "EUR"', when="getDevice.trusted")
    said = policy(text).evaluate(PAYMENT, OUTPUTS, {"getDevice": "review"})
    assert (said.fired, said.unknown) == ((), ())


def test_an_amount_in_the_condition_is_covered_by_the_rules_currency():
    when = 'payment.amount_minor > minor("5.00", "USD")'
    assert found(banded('currency = "USD"', when=when)) == []
    assert [line for line, _ in found(banded('currency = "EUR"', when=when))] == ["4"]


def test_every_currency_at_once_is_taken():
    from paynow import money

    everything = ", ".join(f'"{currency}"' for currency in money.exponents())
    assert len(money.exponents()) > BRANCHES_MAX
    assert fires(banded(f"currency = [{everything}]", 'amount = { from = "1000" }'), 100_000)


@pytest.mark.parametrize(
    ("keys", "faults_found"),
    [
        (["currency = 5"], [("3", '`currency` must be a currency code in quotes, or a list of them: ["USD", "EUR"]')]),
        (["currency = []"], [("3", '`currency` must be a currency code in quotes, or a list of them: ["USD", "EUR"]')]),
        (['currency = ["USD", 5]'], [("3", '`currency` must be a currency code in quotes, or a list of them: ["USD", "EUR"]')]),
        (['currency = ["USD", "usd"]'], [("3", '"usd" is no currency code of ISO 4217 that has minor units')]),
        (['currency = ["USD", "USD"]'], [("3", "a currency stands here twice")]),
        (["currency = 'USD'", "amount = '5'"], [("4", '`amount` must be a band: { from = "100.00", below = "500.00" }, or one of them')]),
        (["currency = 'USD'", "amount = {}"], [("4", '`amount` must be a band: { from = "100.00", below = "500.00" }, or one of them')]),
        (
            [BAND],
            [("3", '`amount` needs the `currency` that it is in, or a band for each: { USD = { from = "100.00" }, JPY = { from = "15000" } }')],
        ),
        (["currency = 'USD'", "amount.USD = { from = '5' }"], [("4", "`amount` names its currencies itself here, so leave out `currency`")]),
        (["amount.USB = { from = '5' }"], [("3", '"USB" is no currency code of ISO 4217 that has minor units')]),
        (["amount.USD = {}"], [("3", "a band needs `from` (at least), `below` (less than) or both")]),
        (["currency = 'USD'", "amount.to = '6'"], [("4", "unknown key `to`; a band has `from` (at least) and `below` (less than)")]),
        (["currency = 'USD'", "amount.from = '5.001'"], [("4", '"5.001" has more decimals than USD, which has 2')]),
        (
            ["currency = ['USD', 'JPY']", "amount.from = '5.00'", "amount.below = '6.5'"],
            [("5", '"6.5" has more decimals than JPY, which has 0')],
        ),
        (["currency = 'USD'", "amount.from = 5"], [("4", 'the amount must be digits in quotes, with a point before the decimals: "250.00"')]),
        (["currency = 'USD'", "amount = { from = '5', below = '5.00' }"], [("4", "the band is empty: `from` must be less than `below`")]),
        (["amount.USD = { from = '5', below = '4' }"], [("3", "the band is empty: `from` must be less than `below`")]),
    ],
)  # fmt: skip
def test_what_is_no_band_is_refused_on_its_line(keys, faults_found):
    assert found(banded(*keys)) == faults_found


def test_a_band_that_no_payment_can_lie_in_is_refused():
    assert [(line, message[:31]) for line, message in found(banded("currency = 'USD'", "amount.below = '0.01'"))] == [
        ("4", "the rule can never match: this ")
    ]


def test_a_condition_that_contradicts_the_band_is_refused_where_it_does():
    [fault] = faults(banded("currency = 'USD'", when="getDevice.trusted &&\n payment.currency == 'EUR'"))
    assert fault.origin == f"{ORIGIN}:5"
    assert fault.message.splitlines()[1:] == ["     payment.currency == 'EUR'", "                      ^"]
