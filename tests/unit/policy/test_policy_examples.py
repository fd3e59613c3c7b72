"""The tests in a policy file: what they are handed, what they may expect, and how they are refused."""

from __future__ import annotations

import pytest
from policy_samples import ORIGIN, TOOLS, faults, rule, score_rule, shadow

from paynow.errors import ConfigurationRefused
from paynow.policy import compile_policy

RULES = (
    "[thresholds]\nreview = 50\n"
    + rule("getBalance.available_minor < payment.amount_minor", identity="poor", then="block")
    + score_rule("!getDevice.trusted", 60, identity="odd")
    + shadow(rule('getDevice.kind == "desk"', identity="desk"))
)
DEFAULTS = """[example_defaults]
payment = { amount = "100.00", currency = "USD" }
signals.getBalance = { available_minor = 50000, reserved_minor = 0 }
signals.getDevice = { trusted = true }
"""
BEFORE = RULES.count("\n") + DEFAULTS.count("\n")
"""The lines above the first example."""


def example(*keys: str, name: str = "x") -> str:
    """One example, its keys from its third line on."""
    return "\n".join(["[[example]]", f'name = "{name}"', *keys]) + "\n"


def found(*examples: str, defaults: str = DEFAULTS) -> list[tuple[int, str, str]]:
    """Line in the first example (from 1), key and message of each fault."""
    before = RULES.count("\n") + defaults.count("\n")
    told = faults(RULES + defaults + "".join(examples))
    return [(int(fault.origin.removeprefix(f"{ORIGIN}:")) - before, fault.key, fault.message) for fault in told]


@pytest.mark.parametrize(
    "keys",
    [
        ['expect = "allow"'],
        ['expect = "allow"', "reasons = []", "score = 0"],
        ['signals.getDevice.kind = "phone"', 'expect = "allow"', "shadow = []"],
        ['payment.amount = "500.01"', 'expect = "block"', 'reasons = ["poor"]'],
        ["signals.getDevice.trusted = false", 'expect = "review"', 'reasons = ["odd"]', "score = 60"],
        ["signals.getDevice = { trusted = false }", "signals.getBalance.available_minor = 1", 'expect = "block"', 'reasons = ["odd", "poor"]'],
        ['failed = { getDevice = "review" }', 'expect = "review"', 'reasons = ["tool_failed"]', "score = 0"],
        ['failed.getBalance = "block"', 'expect = "block"'],
        ['signals.getDevice.kind = "desk"', 'expect = "allow"', 'shadow = ["desk"]'],
        ["payment = { amount = '50000', currency = 'JPY', customer_id = 'c', payee_id = 'p' }", "expect = 'allow'"],
    ],
)
def test_an_example_that_holds_is_counted(keys):
    assert found(example(*keys)) == []
    assert compile_policy(RULES + DEFAULTS + example(*keys) + example(*keys), origin=ORIGIN, tools=TOOLS).examples == 2


@pytest.mark.parametrize(
    ("keys", "line", "message"),
    [
        (['expect = "review"'], 3, "the verdict is allow, not review; fired: none; unknown: none; score 0"),
        (
            ['payment.amount = "500.01"', 'expect = "allow"'],
            4,
            "the verdict is block, not allow; fired: poor; unknown: none; score 0",
        ),
        (
            ["signals.getDevice.trusted = false", 'expect = "review"', 'reasons = ["poor"]'],
            5,
            "`reasons` is odd, not poor; fired: odd; unknown: none; score 60",
        ),
        (["signals.getDevice.trusted = false", 'expect = "review"', "score = 61"], 5, "`score` is 60, not 61; fired: odd; unknown: none; score 60"),
        (
            ['signals.getDevice.kind = "phone"', 'expect = "allow"', 'shadow = ["desk"]'],
            5,
            "`shadow` is none, not desk; fired: none; unknown: none; score 0",
        ),
        (
            ['failed = { getDevice = "review" }', 'expect = "allow"'],
            4,
            "the verdict is review, not allow; fired: none; unknown: odd; score 0",
        ),
    ],
)
def test_an_example_that_does_not_hold_is_refused_where_it_expects_something_else(keys, line, message):
    assert found(example(*keys)) == [(line, "example x", message)]


def test_an_example_that_is_silent_of_what_a_rule_reads_is_refused():
    [(line, key, message)] = found(example('expect = "review"'), defaults=DEFAULTS.replace("signals.getDevice = { trusted = true }\n", ""))
    assert (line, key) == (1, "example x")
    assert message == (
        "says nothing of `getDevice.trusted`, which rule odd reads: say it in `signals`, here or in [example_defaults], "
        'or let the tool fail: failed = { getDevice = "review" }'
    )


def test_what_only_shadow_rules_read_need_be_said_only_if_they_are_asked_for():
    assert found(example('expect = "allow"')) == []
    [(_, _, message)] = found(example('expect = "allow"', "shadow = []"))
    assert message.startswith("says nothing of `getDevice.kind`, which rule desk reads")


def test_the_signals_of_an_example_undo_the_failure_that_is_the_default():
    defaults = DEFAULTS.replace("signals.getDevice = { trusted = true }", 'failed.getDevice = "review"')
    assert found(example('expect = "review"'), example("signals.getDevice.trusted = true", 'expect = "allow"'), defaults=defaults) == []


@pytest.mark.parametrize(
    ("keys", "line", "message"),
    [
        ([], 1, "has no `expect`"),
        (['expect = "deny"'], 3, '`expect` must be "allow", "review" or "block"'),
        (["expect = []"], 3, '`expect` must be "allow", "review" or "block"'),
        (['expect = "allow"', "expects = 1"], 4, "unknown key `expects`; did you mean `expect`?"),
        (['expect = "allow"', "reasons = 'poor'"], 4, "`reasons` must be a list of rule ids in quotes"),
        (['expect = "allow"', "shadow = [1]"], 4, "`shadow` must be a list of rule ids in quotes"),
        (['expect = "allow"', "score = 1.0"], 4, "`score` must be a whole number"),
        (['expect = "allow"', "payment = 5"], 4, "`payment` must be a table"),
        (['expect = "allow"', "payment.amount_minor = 5"], 4, "unknown key `amount_minor`; did you mean `amount`?"),
        (['expect = "allow"', "payment.amount = 5"], 4, 'the amount must be digits in quotes, with a point before the decimals: "250.00"'),
        (['expect = "allow"', "payment.amount = '0'"], 4, "the amount must be greater than zero"),
        (['expect = "allow"', "payment.currency = 'usd'"], 4, '"usd" is no currency code of ISO 4217 that has minor units'),
        (['expect = "allow"', "payment.currency = ['USD']"], 4, "\"['USD']\" is no currency code of ISO 4217 that has minor units"),
        (['expect = "allow"', "payment.payee_id = ''"], 4, "`payee_id` must be a text of 1 to 64 characters"),
        (['expect = "allow"', "signals.getDevize.trusted = true"], 4, "no tool `getDevize` can be read; did you mean `getDevice`?"),
        (['expect = "allow"', "signals.getDevice = true"], 4, "`getDevice` must be a table of what it says"),
        (['expect = "allow"', "signals.getDevice.trust = true"], 4, "unknown key `trust`; did you mean `trusted`?"),
        (['expect = "allow"', "signals.getDevice.trusted = 1"], 4, "`getDevice.trusted` must be true or false"),
        (['expect = "allow"', "signals.getDevice.score = 1.5"], 4, "`getDevice.score` must be a real number, at least 0, at most 1"),
        (['expect = "allow"', "signals.getDevice.kind = 'fridge'"], 4, '`getDevice.kind` must be one of "phone", "tablet", "desk"'),
        (['expect = "allow"', "failed.getDevize = 'review'"], 4, "no tool `getDevize` can be read; did you mean `getDevice`?"),
        (
            ['expect = "allow"', "failed.getDevice = 'allow'"],
            4,
            'the fallback of getDevice must be "review" or "block" (or "ignore", if no rule reads the tool)',
        ),
        (
            ['expect = "allow"', "failed.getDevice = 'ignore'"],
            4,
            'a failure of getDevice cannot be ignored, because a rule reads it: "review" or "block"',
        ),
        (
            ['expect = "allow"', "failed.getDevice = 'review'", "signals.getDevice.trusted = true"],
            4,
            "getDevice stands in `signals` and in `failed`: a tool that failed says nothing",
        ),
    ],
)
def test_what_is_no_example_is_refused_on_its_line(keys, line, message):
    assert found(example(*keys))[0] == (line, "example x", message)


def test_a_table_of_its_own_has_its_own_lines():
    text = example('expect = "allow"') + "\n[example.signals.getDevice]\n# as it was\ntrusted = 1\n"
    assert found(text) == [(7, "example x", "`getDevice.trusted` must be true or false")]


@pytest.mark.parametrize("name", ["5", "''", "'two\\\\nlines'"])
def test_an_example_has_a_name(name):
    [(line, _, _)] = found(f'[[example]]\nexpect = "allow"\nname = {name}\n'.replace("'two\\\\nlines'", '"two\\nlines"'))
    assert line == 3
    assert found('[[example]]\nexpect = "allow"\n') == [(1, "example number 1", "has no `name`")]


@pytest.mark.parametrize(
    ("defaults", "line", "message"),
    [
        ("[example_defaults]\nexpect = 'allow'\n", 2, "unknown key `expect`; known are `payment`, `signals`, `failed`"),
        ("[example_defaults]\nsignals.getDevice.trusted = 1\n", 2, "`getDevice.trusted` must be true or false"),
        ("[[example_defaults]]\n", 1, "must be a table: [example_defaults]"),
    ],
)
def test_the_defaults_are_checked_too(defaults, line, message):
    [fault] = faults(RULES + defaults)
    assert (fault.origin, fault.key, fault.message) == (f"{ORIGIN}:{RULES.count(chr(10)) + line}", "example_defaults", message)


def test_an_example_needs_a_payment_from_somewhere():
    [(line, _, message)] = found(example('expect = "allow"', "payment.currency = 'USD'"), defaults="")
    assert (line, message) == (4, "`payment` has no `amount`, and [example_defaults] has none either")


def test_all_examples_that_do_not_hold_are_told_in_order_of_the_file():
    told = found(example('expect = "block"', name="a"), example('expect = "allow"', name="b"), example('expect = "review"', name="c"))
    assert [(line, key) for line, key, _ in told] == [(3, "example a"), (9, "example c")]


def test_examples_are_not_run_over_rules_that_are_wrong():
    text = RULES + DEFAULTS + example('expect = "block"') + rule("nope > 1", identity="wrong")
    assert [fault.key for fault in faults(text)] == ["rule wrong"]


def test_a_policy_of_former_times_is_read_without_its_examples():
    text = RULES + example('expect = "block"', "signals.getFormer.x = 1")
    with pytest.raises(ConfigurationRefused):
        compile_policy(text, origin=ORIGIN, tools=TOOLS)
    assert compile_policy(text, origin=ORIGIN, tools=TOOLS, run_examples=False).examples == 0
