"""What a rule's condition is refused for, in which words, and where the caret points."""

from __future__ import annotations

import pytest
from policy_samples import TOOLS, faults, faults_of_when, rule

from paynow.policy import compile_policy


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("getBalance.availible_minor > 5", "unknown name `getBalance.availible_minor`; did you mean `getBalance.available_minor`?"),
        ("getbalance.available_minor > 5", "unknown name `getbalance.available_minor`; did you mean `getBalance.available_minor`?"),
        ("available_minor > 5", "unknown name `available_minor`; did you mean `getBalance.available_minor`?"),
        ("score > 0.5", "unknown name `score`; did you mean `getDevice.score`?"),
        ("payment.amount > 5", "unknown name `payment.amount`; did you mean `payment.amount_minor`?"),
        ("xyz > 5", "unknown name `xyz`; names begin with `payment.` or `getBalance.` or `getDevice.`"),
        ("getDevice.kind == phone", 'unknown name `phone`; a word is written in quotes: "phone"'),
        ("getBalance == 5", "`getBalance` is no value itself; its values are `getBalance.available_minor`, `getBalance.reserved_minor`"),
        ("getDevice.trusted && True", "`True` is written `true` here"),
        ("now() > timestamp('2020-01-01T00:00:00Z')", "there is no function `now`, or it takes something else"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_known_one(when, message):
    assert faults_of_when(when) == [message]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("payment.amount_minor > '5'", "`>` does not go with a whole number and a text"),
        ("payment.amount_minor && true", "`&&` does not go with a whole number and true or false"),
        ("!payment.payee_id", "`!` does not go with a text"),
        ("payment.amount_minor in ['a']", "`in` does not go with a whole number and list(string)"),
        ("payment.payee_id.startsWith(3)", "startsWith() does not go with a text and a whole number"),
        ("getDevice.trusted ? 1 : 'a'", "`? :` does not go with true or false and a whole number and a text"),
        (
            "getDevice.score > 1",
            "`>` does not go with a real number and a whole number; "
            "write 5.0 beside a real number and 5 beside a whole one, or double(…) around the whole one",
        ),
        ("payment.amount_minor + 1", "`when` must be true or false, not int"),
        ("'true'", "`when` must be true or false, not string"),
        ("dyn(true)", "`when` must be true or false, not dyn"),
    ],
)
def test_wrong_types_are_refused_in_plain_words(when, message):
    assert faults_of_when(when) == [message]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("payment.amount_minor >", "the expression ends too early"),
        ("getDevice.trusted and true", "not an expression: mismatched input 'and'; did you mean `&&`?"),
        ("payment.amount_minor = 5", "not an expression: token recognition error at: '= '; did you mean `==`?"),
        ("[" * 40 + "1" + "]" * 40 + " == 1", "the expression is nested too deeply; split it into several rules"),
        ("payment.amount_minor > 1" + " + 1" * 60, "the expression is nested too deeply; split it into several rules"),
        ("payment.amount_minor > 99999999999999999999", "invalid int literal"),
    ],
)
def test_what_is_no_expression_is_refused(when, message):
    assert faults_of_when(when) == [message]


def test_the_fault_shows_the_line_with_a_caret():
    [fault] = faults(rule("\ngetDevice.trusted\n  && getDevice.knd == 'phone'\n"))
    assert fault.origin == "config/policy.toml:5"
    assert fault.key == "rule r"
    assert fault.message.split("\n") == [
        "unknown name `getDevice.knd`; did you mean `getDevice.kind`?",
        "      && getDevice.knd == 'phone'",
        "         ^",
    ]


def test_what_ends_too_early_is_shown_where_it_ends():
    [fault] = faults(rule("\ngetDevice.trusted\n  && getDevice.score >\n\n"))
    assert (fault.origin, fault.message.split("\n")[1:]) == ("config/policy.toml:5", ["      && getDevice.score >", "                          ^"])


def test_the_caret_stands_right_after_a_money_literal_and_letters_of_two_bytes():
    [fault] = faults(rule("payment.payee_id != 'ü' && payment.currency == 'USD' && payment.amount_minor > minor('1.00', 'USD') && nope > 1"))
    _, row, caret = fault.message.split("\n")
    assert row[caret.index("^") :].startswith("nope")


def test_of_a_long_line_only_the_neighbourhood_is_shown():
    [fault] = faults(rule("getDevice.trusted && " * 50 + "nope" + " && getDevice.trusted" * 50))
    _, row, caret = fault.message.split("\n")
    assert row[caret.index("^") :].startswith("nope")
    assert len(row) < 140
    assert (row[4], row[-1]) == ("…", "…")


def test_every_wrong_name_of_a_rule_is_told():
    assert len(faults_of_when("nope > 1 && nada > 2 && nope > 3")) == 2


@pytest.mark.parametrize("when", ["has(getDevice.trusted)", "!has( getDevice.trusted )", "true && has (getDevice.trusted)"])
def test_has_is_refused_because_it_would_be_taken_for_the_value(when):
    assert faults_of_when(when)[0].startswith("has() is not needed")


@pytest.mark.parametrize("when", ["payment.payee_id == 'has(x)'", "getDevice.trusted // has(x)"])
def test_has_in_a_text_or_comment_is_no_matter(when):
    assert faults_of_when(when) == []


@pytest.mark.parametrize(
    "when",
    [
        "getDevice.kind == 'fone'",
        "'fone' == getDevice.kind",
        "getDevice.kind != 'fone'",
        "getDevice.kind in ['phone', 'fone']",
        "!(getDevice.kind in ['fone'])",
        "getDevice.trusted || getDevice.kind == 'fone'",
    ],
)
def test_a_word_that_a_field_never_says_is_refused_with_those_it_says(when):
    assert faults_of_when(when) == ['getDevice.kind is never "fone"; it is one of "phone", "tablet", "desk"']


def test_a_currency_that_is_none_is_refused():
    assert faults_of_when("payment.currency == 'USS'") == ['payment.currency is never "USS"; it is a currency code of ISO 4217 that has minor units']


def test_any_text_may_be_compared_with_a_field_that_says_any():
    assert faults_of_when("getDevice.label == 'fone' && payment.payee_id in ['p_1', 'p_2']") == []


def test_a_pattern_that_is_none_is_refused():
    assert faults_of_when("payment.payee_id.matches('(')") == ["invalid regular expression: missing ): ( (patterns are written in RE2 syntax)"]
    assert faults_of_when("payment.payee_id.matches(payment.customer_id)") == ["the pattern of matches() must be written out as a text in quotes"]
    assert faults_of_when("matches(payment.payee_id, '^p_[0-9]+$')") == []


def test_a_rule_that_always_matches_is_taken():
    assert faults_of_when("true") == []
    assert faults_of_when("payment.amount_minor >= 1") == []


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("false", "the rule can never match: this is never true"),
        ("getDevice.score > 1.0", "the rule can never match: this is never true; getDevice.score is a real number, at least 0, at most 1"),
        (
            "getDevice.trusted && getDevice.age_days > 10 && getDevice.age_days < 5",
            "the rule can never match: this contradicts what stands before it; getDevice.age_days is a whole number, at least 0, at most 3650",
        ),
    ],
)
def test_a_rule_that_can_never_match_is_refused_with_the_reason(when, message):
    assert faults_of_when(when) == [message]


def test_the_caret_of_an_impossible_rule_points_at_the_condition_to_blame():
    [fault] = faults(rule("getDevice.trusted && getDevice.age_days > 10 && getDevice.age_days < 5 && getDevice.score > 0.5"))
    _, row, caret = fault.message.split("\n")
    assert row[caret.index("^") :].startswith("< 5")


def test_a_tool_that_is_not_handed_in_has_no_names():
    tools = {name: fields for name, fields in TOOLS.items() if name != "getDevice"}
    assert compile_policy(rule("getBalance.available_minor > 5"), origin="o", tools=tools).tools_read == {"getBalance"}
    assert faults_of_when("getDevices.score > 0.5")[0].startswith("unknown name `getDevices.score`; did you mean `getDevice.score`?")
