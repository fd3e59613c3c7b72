"""The policy file's shape: which keys, which values, and on which line a fault is reported."""

from __future__ import annotations

import time

import pytest
from policy_samples import ORIGIN, TOOLS, faults, rule

from paynow.policy import compile_policy
from paynow.policy.source import RULE_KEYS, RULES_MAX, read_source

GOOD = 'id = "r"\nwhen = "payment.amount_minor > 5"\nthen = "review"\nmessage = "m"\n'


def found(text: str) -> list[tuple[str, str, str]]:
    return [(fault.origin.removeprefix(f"{ORIGIN}:"), fault.key, fault.message.split("\n")[0]) for fault in faults(text)]


def test_the_empty_text_is_a_policy_that_allows():
    policy = compile_policy("", origin=ORIGIN, tools={})
    assert (policy.default, policy.rules, policy.tools_read) == ("allow", (), frozenset())


def test_a_file_of_comments_and_blank_lines_is_a_policy():
    assert found("# nothing yet\n\n   # really\n") == []


@pytest.mark.parametrize("default", ["allow", "review", "block"])
def test_each_verdict_may_be_the_default(default):
    assert compile_policy(f'default = "{default}"', origin=ORIGIN, tools={}).default == default


@pytest.mark.parametrize("default", ['"deny"', "3", "true", "[]"])
def test_another_default_is_refused_on_its_line(default):
    assert found(f"# first\n\ndefault = {default}\n") == [("3", "default", 'must be "allow", "review" or "block"')]


def test_text_that_is_no_toml_is_refused_on_the_line_that_the_parser_names():
    [(line, key, message)] = found('default = "allow"\n\nrule ==\n')
    assert (line, key) == ("3", "")
    assert message.startswith("not valid TOML: ")
    assert "(at line" not in message


def test_a_text_that_never_ends_is_refused_on_the_last_line():
    [(line, _, message)] = found("default = 'allow'\n[[rule]]\nwhen = '''payment\n\n\n")
    assert (line, message[:16]) == ("3", "not valid TOML: ")


def test_values_nested_without_end_are_refused():
    [(line, _, message)] = found("default = " + "[" * 20_000)
    assert (line, message) == ("1", "not valid TOML: values are nested too deeply")


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ('defautl = "allow"', "1", "defautl", "unknown key; did you mean `default`?"),
        ("\n[[rules]]\n", "2", "rules", "unknown key; did you mean `rule`?"),
        ("\n\n[limits]\nx = 1\n", "3", "limits", "unknown key; known are `default`, `thresholds`, `rule`, `example_defaults`, `example`"),
        (f"[[rule]]\n{GOOD}mesage = 'x'\n", "6", "rule r", "unknown key `mesage`; did you mean `message`?"),
        (f"[[rule]]\n{GOOD}[rule.extra]\nx = 1\n", "6", "rule r", f"unknown key `extra`; known are {', '.join(f'`{key}`' for key in RULE_KEYS)}"),
    ],
)
def test_unknown_keys_are_refused_at_every_level(text, line, key, message):
    assert found(text) == [(line, key, message)]


LACKS = {
    "id": "has no `id`",
    "when": "has no condition: `when`, `currency` or `amount`",
    "then": "has neither `then` nor `score`",
    "message": "has no `message`",
}


@pytest.mark.parametrize("key", LACKS)
def test_a_missing_key_is_refused_at_the_rules_header(key):
    rest = "".join(line for line in GOOD.splitlines(keepends=True) if not line.startswith(key))
    assert found(f"\n[[rule]]\n{rest}") == [("2", "rule r" if key != "id" else "rule number 1", LACKS[key])]


@pytest.mark.parametrize("key", ["id", "when", "then", "message"])
@pytest.mark.parametrize("value", ["3", "1.5", "true", '["a"]', "1979-05-27", "{a = 1}"])
def test_a_value_that_is_no_text_is_refused_on_its_line(key, value):
    rest = "".join(f"{key} = {value}\n" if line.startswith(key) else line for line in GOOD.splitlines(keepends=True))
    [(line, _, message)] = found(f"[[rule]]\n{rest}")
    assert (line, message) == (str(2 + ["id", "when", "then", "message"].index(key)), f"`{key}` must be a text in quotes")


@pytest.mark.parametrize("identity", ["", "A", "1a", "a-b", "a b", "ä", "_a", "a" * 65, "a\\n"])
def test_an_id_must_be_a_word(identity):
    [(line, key, message)] = found("[[rule]]\n" + GOOD.replace('"r"', f'"{identity}"'))
    assert (line, key) == ("2", "rule number 1")
    assert message.startswith("`id` must be a small letter")


@pytest.mark.parametrize("identity", ["a", "a" * 64, "r_1", "insufficient"])
def test_words_are_ids(identity):
    assert found(rule("payment.amount_minor > 5", identity=identity)) == []


@pytest.mark.parametrize("identity", ["tool_failed", "rule_failed"])
def test_a_reserved_reason_code_is_no_id(identity):
    [(_, _, message)] = found(rule("payment.amount_minor > 5", identity=identity))
    assert message == f"`{identity}` is a reason code of PayNow's own; choose another id"


def test_insufficient_funds_may_only_block():
    assert found(rule("payment.amount_minor > 5", identity="insufficient_funds", then="block")) == []
    [(line, key, message)] = found(rule("payment.amount_minor > 5", identity="insufficient_funds", then="review"))
    assert (line, key) == ("4", "rule insufficient_funds")
    assert 'must be "block"' in message


def test_an_id_that_is_taken_is_refused_with_the_line_of_the_first():
    text = rule("payment.amount_minor > 5") + "\n" + rule("payment.amount_minor > 6")
    assert found(text) == [("8", "rule r", "the id is taken already, by the rule on line 2")]


@pytest.mark.parametrize("then", ["allow", "Block", "deny", ""])
def test_a_rule_reviews_or_blocks(then):
    assert found(rule("payment.amount_minor > 5", then=then)) == [("4", "rule r", '`then` must be "review" or "block"')]


@pytest.mark.parametrize("message", ["", "   ", "two\\nlines", "bell\\u0007", "a" * 301])
def test_a_message_is_one_line_that_people_can_read(message):
    [(line, _, _)] = found(rule("payment.amount_minor > 5", message=message))
    assert line == "5"


def test_single_brackets_are_refused_with_the_way_to_write_it():
    assert found(f"[rule]\n{GOOD}") == [("1", "rule", "each rule is a table of its own: write [[rule]], with two brackets")]


def test_all_faults_are_told_at_once_in_the_order_of_the_file():
    text = 'default = "no"\n' + rule("nope > 1", identity="A", then="x") + "extra = 1\n" + rule("payment.amount_minor", identity="b") + "\n[[rule]]\n"
    assert [(line, key) for line, key, _ in found(text)] == [
        ("1", "default"),
        ("3", "rule number 1"),
        ("4", "rule number 1"),
        ("5", "rule number 1"),
        ("7", "rule number 1"),
        ("10", "rule b"),
        ("14", "rule number 3"),
        ("14", "rule number 3"),
        ("14", "rule number 3"),
        ("14", "rule number 3"),
    ]


AWKWARD = """\
# [[rule]] in a comment is none
"default" = "allow"   # a quoted key

[[ rule ]]   # blanks in the brackets
id = "first"
message = '''
[[rule]]
when = "not here" '''
when = 'nope.x > 1'
then = "review"

[["rule"]]
  'id' = "second"
  "when" = \"\"\"
payment.amount_minor > 5 \\
   && payment.amount_minor > 6

   && nope.y > 1 \\

   && true
   && nope.z > 1\"\"\"
  then = "block"
  message = "# no comment = [ {"

[[rule]]
then = "block"
message = "m"
id = "third"
when = '''payment.amount_minor > 5 &&
  nope.x > 1
  &&
    nope.y > 1
'''
"""


def test_lines_are_exact_in_an_awkward_file():
    places = [(line, key, message.split("`")[1]) for line, key, message in found(AWKWARD) if "unknown name" in message]
    assert places == [
        ("9", "rule first", "nope.x"),
        ("18", "rule second", "nope.y"),
        ("21", "rule second", "nope.z"),
        ("30", "rule third", "nope.x"),
        ("32", "rule third", "nope.y"),
    ]


def test_lines_are_the_same_with_windows_line_ends():
    assert found(AWKWARD.replace("\n", "\r\n")) == found(AWKWARD)


def test_a_line_end_written_as_an_escape_stays_on_its_line():
    text = '[[rule]]\nid = "r"\nwhen = "true &&\\n nope.x > 1"\nthen = "review"\nmessage = "m"\n'
    assert [line for line, _, _ in found(text)] == ["3"]


def test_rules_written_as_one_list_are_reported_on_the_lists_line():
    text = 'default = "allow"\nrule = [\n  {id = "r", when = "nope > 1", then = "review", message = "m"},\n]\n'
    assert [(line, key) for line, key, _ in found(text)] == [("2", "rule r")]


def test_no_more_rules_than_the_bound():
    text = "".join(rule("payment.amount_minor > 5", identity=f"r{number}") for number in range(RULES_MAX + 1))
    assert found(text) == [(str(5 * RULES_MAX + 1), "rule", "there are 501 rules, at most 500 are taken")]


def test_no_longer_condition_than_the_bound():
    condition = "payment.amount_minor > 5"
    assert found(rule(condition.ljust(4000))) == []
    assert found(rule(condition.ljust(4001))) == [("3", "rule r", "`when` has 4001 characters, at most 4000 are taken")]


def test_no_longer_text_than_the_bound():
    assert [finding.line for finding in read_source("#" * 1_000_001).findings] == [1]


def test_keys_of_another_table_are_not_taken_for_a_rules():
    assert ("3", "rule r", "unknown name `nope`; names begin with `payment.` or `getBalance.` or `getDevice.`") in found(
        rule("nope > 1") + "[limits]\nwhen = 3\n"
    )


def test_a_list_over_very_many_lines_is_read_quickly():
    one = '{id = "r%d", when = "payment.amount_minor > 5", then = "review", message = "m"},\n'
    text = "rule = [\n" + "".join(one % number + "\n" * 5 for number in range(499)) + '{id = "x"}]\n'
    started_s = time.perf_counter()
    assert {finding.line for finding in read_source(text).findings} == {1}
    assert time.perf_counter() - started_s < 2


@pytest.mark.parametrize("tools", [{}, TOOLS])
def test_the_version_is_a_hash_of_the_text_alone(tools):
    text = rule("payment.amount_minor > 5")
    version = compile_policy(text, origin="a", tools=tools).version
    assert len(version) == 32
    assert version == compile_policy(text, origin="b", tools=TOOLS).version
    assert version == compile_policy(text.replace("\n", "\r\n"), origin="a", tools=tools).version
    assert version != compile_policy(text + "# a word\n", origin="a", tools=tools).version
    # A version once stored must be found again by every later PayNow.
    assert compile_policy("", origin="a", tools={}).version == "e3b0c44298fc1c149afbf4c8996fb924"
