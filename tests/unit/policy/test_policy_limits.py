"""Bounds in time and reach: no rule runs long, none reaches Python, and all are checked and asked quickly."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable

import pytest
from built_in_tools import built_in_tools, ordinary_outputs
from policy_samples import OUTPUTS, PAYMENT, faults, faults_of_when, policy, rule, score_rule, shadow

from paynow.policy import Policy, compile_policy
from paynow.policy.language import Language, NotCompiled

LANGUAGE = Language({"a.text": str, "a.whole": int})
FACTS = LANGUAGE.facts({"a.text": "x" * 200, "a.whole": 1})


def seconds(call: Callable[[], object], rounds: int = 1) -> float:
    """The shortest of some tries: what else the machine does is not measured."""
    tries_s = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        call()
        tries_s.append(time.perf_counter() - started_s)
    return min(tries_s)


def thousand_additions() -> int:
    """A yardstick that is as slow or quick as the machine is: what a rule costs is told as a multiple of it."""
    total = 0
    for number in range(1000):
        total += number
    return total


def fifty_rules() -> str:
    conditions = [
        "getBalance.available_minor < payment.amount_minor",
        'getRiskSignals.customer_list == "block"',
        'getRiskSignals.attempts_1m > {n} && getRiskSignals.payee_list != "allow"',
        '!getRiskSignals.payee_known && getRiskSignals.payee_list != "allow" && payment.amount_minor >= {n}00000',
        'getRiskSignals.allowed_count >= 5 && getRiskSignals.amount_to_mean > {n}.0 && getRiskSignals.payee_list != "allow"',
    ]
    return "".join(rule(conditions[number % 5].format(n=number + 10), identity=f"r{number}") for number in range(50))


def strangers_policy() -> str:
    """Fifty rules as a risk team has them: verdicts, scores, some in shadow, bands, lists, and six examples."""
    rules = [
        rule("getBalance.available_minor < payment.amount_minor", identity="insufficient_funds", then="block"),
        rule('getRiskSignals.customer_list == "block" || getRiskSignals.payee_list == "block"', identity="listed", then="block"),
    ]
    for number in range(48):
        kind = number % 6
        identity = f"r{number}"
        if kind == 0:
            rules.append(rule(f'getRiskSignals.attempts_1m > {number + 10} && getRiskSignals.payee_list != "allow"', identity=identity))
        elif kind == 1:
            rules.append(score_rule(f"getRiskSignals.amount_to_mean > {number + 3}.0 && getRiskSignals.allowed_count >= 5", 30, identity=identity))
        elif kind == 2:
            banded = f'currency = ["USD", "EUR", "GBP"]\namount = {{ from = "{number}000.00", below = "{number + 1}000.00" }}\n'
            rules.append(score_rule("!getRiskSignals.payee_known", 40, identity=identity) + banded)
        elif kind == 3:
            when = f'payment.payee_id in ["p_{number}", "p_x{number}", "p_y{number}"] && getRiskSignals.attempts_24h > {number}'
            rules.append(shadow(rule(when, identity=identity, then="block")))
        elif kind == 4:
            rules.append(score_rule('getRiskSignals.payee_list == "allow"', -number - 1, identity=identity) + 'mode = "shadow"\n')
        else:
            amount = f'amount.JPY = {{ from = "{number}00000" }}\namount.USD = {{ from = "{number}000.00" }}\n'
            rules.append(rule("getRiskSignals.attempted_minor_24h > 5 * payment.amount_minor", identity=identity) + amount)
    said = {tool: dict(fields) for tool, fields in ordinary_outputs().items()}
    signals = "".join(
        f"[example_defaults.signals.{tool}]\n" + "".join(f"{n} = {json.dumps(v)}\n" for n, v in of.items()) for tool, of in said.items()
    )
    defaults = f'[example_defaults]\npayment = {{ amount = "125.50", currency = "USD" }}\n{signals}'
    examples = [
        ('expect = "allow"', "score = 0"),
        ('payment.amount = "2500.00"', 'expect = "allow"', "score = 40"),
        ('payment.amount = "5000.01"', 'expect = "block"'),
        ("signals.getRiskSignals = { allowed_count = 9, amount_to_mean = 25.0 }", 'expect = "review"', "score = 120"),
        ('failed.getRiskSignals = "review"', 'expect = "review"', 'reasons = ["tool_failed"]'),
        ('failed.getBalance = "block"', 'expect = "block"'),
    ]
    written = "".join(f'[[example]]\nname = "example {at}"\n' + "\n".join(keys) + "\n" for at, keys in enumerate(examples))
    return "[thresholds]\nreview = 50\nblock = 130\n" + "".join(rules) + defaults + written


@pytest.fixture(scope="module")
def fifty() -> Policy:
    return compile_policy(fifty_rules(), origin="o", tools=built_in_tools())


@pytest.fixture(scope="module")
def strangers() -> Policy:
    return compile_policy(strangers_policy(), origin="o", tools=built_in_tools())


@pytest.mark.parametrize("text", [fifty_rules(), strangers_policy()], ids=["alike", "a stranger's"])
def test_fifty_rules_are_checked_at_boot_in_less_than_a_second(text):
    assert seconds(lambda: compile_policy(text, origin="o", tools=built_in_tools()), rounds=3) < 1


def test_the_strangers_policy_is_what_it_is_meant_to_be(strangers):
    assert (len(strangers.rules), strangers.examples) == (50, 6)
    assert Counter((rule.score is not None, rule.enforced) for rule in strangers.rules) == {
        (False, True): 18,
        (True, True): 16,
        (False, False): 8,
        (True, False): 8,
    }


@pytest.mark.parametrize(
    ("signals", "floors", "told"),
    [
        ({}, {}, 0),
        ({"attempts_1m": 11}, {}, 1),
        ({"payee_list": "allow"}, {}, 8),
        ({"allowed_count": 9, "amount_to_mean": 25.0}, {}, 4),
        ({}, {"getRiskSignals": "review"}, 25),
    ],
    ids=["nothing fires", "one fires", "shadow rules fire", "scores add up", "a tool fails"],
)
def test_a_strangers_rules_are_asked_in_the_time_of_a_few_thousand_additions(strangers, signals, floors, told):
    outputs = ordinary_outputs()
    outputs["getRiskSignals"] |= signals
    said = strangers.evaluate(PAYMENT, outputs, floors)
    assert sum(map(len, (said.fired, said.shadow_fired, said.unknown, said.shadow_unknown))) == told
    took = []
    for _ in range(50):  # side by side, so that both have the machine in the same mood
        asked_s = seconds(lambda: [strangers.evaluate(PAYMENT, outputs, floors) for _ in range(5)], rounds=3)
        took.append(asked_s / seconds(lambda: [thousand_additions() for _ in range(5)], rounds=3))
    assert min(took) <= (5 if not floors else 7)  # 2 and 4 were measured; a thousand additions take 20 to 30 µs


def test_a_policy_is_compiled_once_and_only_asked_afterwards(strangers, monkeypatch):
    monkeypatch.setattr(Language, "compile", None)
    for attempts in range(3):
        outputs = ordinary_outputs()
        outputs["getRiskSignals"]["attempts_1m"] = 10 + attempts
        assert strangers.evaluate(PAYMENT, outputs, {"getBalance": "block"}).decision == "block"


@pytest.mark.parametrize(("attempts", "fired"), [(1, 0), (13, 1)])
def test_fifty_rules_are_asked_in_the_time_of_a_few_thousand_additions(fifty, attempts, fired):
    outputs = ordinary_outputs()
    outputs["getRiskSignals"]["attempts_1m"] = attempts
    assert len(fifty.evaluate(PAYMENT, outputs, {}).fired) == fired
    asked_s = seconds(lambda: [fifty.evaluate(PAYMENT, outputs, {}) for _ in range(20)], rounds=50)
    yardstick_s = seconds(lambda: [thousand_additions() for _ in range(20)], rounds=50)
    assert asked_s <= 5 * yardstick_s  # 2 times was measured; an interpreted rule is 50 times that


def test_the_language_itself_ends_loops_in_loops():
    ten = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
    nested = "a.whole == 1"
    for name in "uvwxyz":
        nested = f"{ten}.all({name}, {nested})"
    expression = LANGUAGE.compile(nested)
    assert expression.truth(FACTS) is None
    assert seconds(lambda: expression.truth(FACTS)) < 1


@pytest.mark.parametrize("loop", ["[1].all(x, [2].exists(y, y > x))", "[1].map(x, [2].map(y, y + x)).size() > 1"])
def test_a_loop_in_a_loop_is_refused_all_the_same(loop):
    assert faults_of_when(loop) == ["a loop (exists, all, map, …) cannot stand inside another one"]


def test_a_pattern_in_a_loop_is_refused_because_it_would_be_compiled_every_time():
    [message] = faults_of_when("['a'].exists(p, payment.payee_id.matches('a'))")
    assert message.startswith("matches() cannot stand inside a loop")


def test_loops_one_after_the_other_are_taken():
    assert policy(rule("[1, 2, 3].filter(n, n > 1).exists(n, n == 3)")).evaluate(PAYMENT, OUTPUTS, {}).fired == ("r",)


def test_the_longest_loop_that_fits_into_a_rule_is_short():
    numbers = ",".join(["1"] * 1950)
    looping = policy(rule(f"[{numbers}].all(n, n < payment.amount_minor)"))
    assert seconds(lambda: looping.evaluate(PAYMENT, OUTPUTS, {}), rounds=3) < 0.1


def test_no_pattern_takes_exponential_time():
    pattern = policy(rule("getDevice.label.matches('(x+x+)+y')"))
    outputs = {"getDevice": {**OUTPUTS["getDevice"], "label": "x" * 200}}
    assert seconds(lambda: pattern.evaluate(PAYMENT, outputs, {}), rounds=3) < 0.1


ATTACKS = [
    "a.text.__class__ == 1",
    "a.text.__class__.__mro__[1].__subclasses__().size() > 0",
    "a.text._private == 1",
    "_a == 1",
    "__builtins__ == 1",
    "__import__('os').system('true') == 0",
    "eval('1') == 1",
    "exec('1') == 1",
    "compile('1', 'x', 'eval') == 1",
    "open('/etc/passwd').read() == ''",
    "globals() == {}",
    "vars() == {}",
    "a.text.encode() == b''",
    "a.text.format(a) == ''",
    "'%s' % a.text == ''",
    "f'{a.text}' == ''",
    "getattr(a.text, 'x') == 1",
    "(lambda: 1)() == 1",
    "[n for n in [1]] == [1]",
    "a.text if true else a.text",
    "a.text := 'x'",
    "import os",
    "print('x')",
    "minor('1')",
    "a.whole ** 9 > 1",
    "while (true) {}",
    "a.whole; a.whole == 1",
    "type(a.text).__name__ == ''",
    "env('HOME') == ''",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_no_expression_reaches_python(text):
    with pytest.raises(NotCompiled):
        LANGUAGE.compile(text)


@pytest.mark.parametrize("text", ATTACKS)
@pytest.mark.parametrize("key", ["when", "message", "customer_message", "id", "mode"])
def test_no_text_of_a_policy_is_run_wherever_it_stands(key, text):
    """A text that is no condition is kept as it is or refused; one that is a condition is refused."""
    quoted = json.dumps(text)
    keys = {"id": '"r"', "when": '"payment.amount_minor >= 1"', "then": '"review"', "message": '"m"', key: quoted}
    written = "[[rule]]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items())
    if key.endswith("message"):
        [reason] = policy(written).evaluate(PAYMENT, OUTPUTS, {}).reasons
        assert text == (reason.message if key == "message" else reason.customer_message)
    else:
        assert faults(written) != []


@pytest.mark.parametrize("text", ["x" * 100, 'USD" || true || "', "USD') || ('1' == '1", "__import__"])
def test_a_band_takes_no_condition_in_disguise(text):
    quoted = json.dumps(text)
    assert faults(f'[[rule]]\nid = "r"\ncurrency = {quoted}\nthen = "review"\nmessage = "m"\n') != []
    for bound in ("from", "below"):
        banded = f'currency = "USD"\namount.{bound} = {quoted}\n'
        assert faults(f'[[rule]]\nid = "r"\n{banded}then = "review"\nmessage = "m"\n') != []
    assert faults(f'[[rule]]\nid = "r"\namount.{quoted} = {{ from = "1" }}\nthen = "review"\nmessage = "m"\n') != []


@pytest.mark.parametrize(
    "when",
    [
        "(" * 5_000 + "true" + ")" * 5_000,
        "!" * 3_900 + "true",
        " && ".join(["true"] * 480),
        " + ".join(["1"] * 950) + " > payment.amount_minor",
        "[" * 1_900 + "]" * 1_900 + " == []",
        "payment.payee_id.matches('" + "(a?){1000}" * 3 + "')",
        "[1, 2, 3].map(n, [1, 2, 3].map(m, m)).size() > 0",
    ],
    ids=["brackets", "negations", "conditions", "additions", "lists", "patterns", "loops"],
)
def test_no_condition_is_checked_or_asked_for_long(when):
    began_s = time.perf_counter()
    if not faults(rule(when)):
        policy(rule(when)).evaluate(PAYMENT, OUTPUTS, {})
    assert time.perf_counter() - began_s < 5
