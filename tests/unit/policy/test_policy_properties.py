"""Properties of random rules: what is refused as impossible never matches, and less knowledge never makes a verdict milder."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from policy_samples import ORIGIN, PAYMENT

from paynow.plugin_api import Field, choice, flag, real, text, whole
from paynow.policy import STRICTNESS, compile_policy
from paynow.policy.language import Language
from paynow.policy.model import Group, Policy
from paynow.policy.ranges import declared
from paynow.policy.reachability import first_impossible

NUMBERS = (-1, 0, 1, 2, 3)
TOOLS: dict[str, dict[str, Field]] = {
    "a": {"n": whole(minimum=0, maximum=2), "m": whole(minimum=-1, maximum=1), "f": flag(), "w": choice("x", "y")},
    "b": {"n": whole(minimum=1), "r": real(minimum=0, maximum=1), "s": real(), "f": flag(), "t": text()},
    "c": {"n": whole(), "f": flag(), "w": choice("x", "y", "z")},
}
FIELDS = {f"{tool}.{name}": field for tool, output in TOOLS.items() for name, field in output.items()}
LANGUAGE = Language({name: field.kind for name, field in FIELDS.items()})

WHOLE = st.sampled_from([name for name, field in FIELDS.items() if field.kind is int])
REAL = st.sampled_from(["b.r", "b.s"])
WORD = st.sampled_from(["a.w", "c.w", "b.t"])
FLAG = st.sampled_from(["a.f", "b.f", "c.f"])
WORDS = st.sampled_from(["'x'", "'y'", "'z'", "'u'"])
COMPARISON = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])


def calculations(names: st.SearchStrategy[str], constants: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    atoms = names | constants
    return st.recursive(
        atoms,
        lambda inner: (
            st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner)
            | st.builds("-({})".format, inner)
            | st.builds("({} ? {} : {})".format, FLAG, inner, inner)
        ),
        max_leaves=3,
    )


def comparisons(side: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("{} {} {}".format, side, COMPARISON, side)


def memberships(value: st.SearchStrategy[str], elements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda one, many: f"{one} in [{', '.join(many)}]", value, st.lists(elements, min_size=1, max_size=3))


WHOLE_SIDE = calculations(WHOLE, st.sampled_from(NUMBERS).map(str))
REAL_SIDE = calculations(REAL, st.sampled_from(["0.0", "0.5", "1.0", "-0.5", "2.5"])) | st.builds("double({})".format, WHOLE)
CONDITIONS = st.recursive(
    comparisons(WHOLE_SIDE)
    | comparisons(WHOLE | st.sampled_from(NUMBERS).map(str))
    | comparisons(REAL_SIDE)
    | comparisons(WORD | WORDS)
    | memberships(WHOLE, st.sampled_from(NUMBERS).map(str) | WHOLE)
    | memberships(WORD, WORDS)
    | FLAG
    | st.builds("['x', 'u'].exists(p, p == {})".format, WORD),
    lambda inner: (
        st.builds("({} && {})".format, inner, inner)
        | st.builds("({} && {})".format, inner, inner)
        | st.builds("({} || {})".format, inner, inner)
        | st.builds("!({})".format, inner)
        | st.builds("({} ? {} : {})".format, inner, inner, inner)
        | st.builds("(({}) == ({}))".format, inner, inner)
        | st.builds("(({}) != ({}))".format, inner, inner)
    ),
    max_leaves=5,
)


def values_of(field: Field) -> list[Any]:
    """The values that the rules compare with, those just beside the bounds, and the ends."""
    if field.kind is bool:
        return [True, False]
    if field.kind is str:
        return list(field.choices or ("x", "y", "u", ""))
    ends = (-(2**63), 2**63 - 1) if field.kind is int else (0.0, -0.0, 5e-324, 0.5, 0.25, 1.0, -0.5, -0.25, 2.5, 1.7e308, -1.7e308)
    return [field.kind(number) for number in (*NUMBERS, 4, *ends) if field.accepts(field.kind(number))]


OUTPUTS = st.fixed_dictionaries(
    {tool: st.fixed_dictionaries({name: st.sampled_from(values_of(field)) for name, field in output.items()}) for tool, output in TOOLS.items()}
)


def flat(outputs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {f"{tool}.{name}": value for tool, output in outputs.items() for name, value in output.items()}


STATE = {name: declared(field) for name, field in FIELDS.items()}


RANDOM = random.Random(7)
SOME_FACTS = [LANGUAGE.facts({name: RANDOM.choice(values_of(field)) for name, field in FIELDS.items()}) for _ in range(500)]


@settings(max_examples=1000, deadline=None)
@given(CONDITIONS)
def test_a_condition_called_impossible_is_never_true(when):
    expression = LANGUAGE.compile(when)
    if first_impossible(expression.tree(), STATE) is not None:
        assert not any(expression.truth(facts) for facts in SOME_FACTS)


SMALL_LANGUAGE = Language({"x": int, "y": int, "f": bool, "w": str})
SMALL_VALUES = [
    {"x": x, "y": y, "f": f, "w": w} for x in range(4) for y in range(4) for f in (True, False) for w in ("u", "v")
]  # fmt: skip
SMALL_FACTS = [SMALL_LANGUAGE.facts(values) for values in SMALL_VALUES]
SMALL_FIELDS = {"x": whole(minimum=0, maximum=3), "y": whole(minimum=0, maximum=3), "f": flag(), "w": choice("u", "v")}
SMALL_SIDE = st.sampled_from(["x", "y", "0", "1", "2", "3", "x + 1", "y - x", "x * y", "6 / 2", "-y"])
SMALL_CONDITIONS = st.recursive(
    comparisons(SMALL_SIDE) | st.builds("w {} {}".format, st.sampled_from(["==", "!="]), st.sampled_from(["'u'", "'v'"])) | st.just("f"),
    lambda inner: (
        st.builds("({} && {})".format, inner, inner) | st.builds("({} || {})".format, inner, inner) | st.builds("!({})".format, inner)
        | st.builds("({} ? {} : {})".format, inner, inner, inner) | st.builds("(({}) == ({}))".format, inner, inner)
    ),
    max_leaves=6,
)  # fmt: skip


def test_over_all_values_what_is_called_impossible_is_and_most_that_is_impossible_is_called_so():
    counted = {"impossible": 0, "called so": 0}

    @settings(max_examples=1000, deadline=None)
    @given(SMALL_CONDITIONS)
    def holds(when: str) -> None:
        expression = SMALL_LANGUAGE.compile(when)
        called_so = first_impossible(expression.tree(), {name: declared(field) for name, field in SMALL_FIELDS.items()}) is not None
        matches = any(expression.truth(facts) for facts in SMALL_FACTS)
        assert not (called_so and matches)
        counted["impossible"] += not matches
        counted["called so"] += called_so

    holds()
    assert counted["called so"] > counted["impossible"] / 2 > 10, counted


SCORES = st.sampled_from([-40, -10, 5, 20, 45, 60, 120]).map("score = {}".format)
VERDICTS = st.sampled_from(["then = 'review'", "then = 'block'"])
SCOPE = st.sampled_from(["", "", "", "currency = 'USD'", "currency = ['EUR', 'USD']", "currency = 'EUR'"]) | st.sampled_from(
    ["amount.USD = { from = '100.00' }", "amount = { USD = { below = '125.50' }, JPY = { from = '5' } }", "amount.USD = { from = '125.50' }"]
)
MODES = st.sampled_from(["enforce", "enforce", "enforce", "shadow"])


def rules_that_come_to(what: st.SearchStrategy[str], most: int) -> st.SearchStrategy[list[tuple[str, str, str, str]]]:
    return st.lists(st.tuples(CONDITIONS, what, SCOPE, MODES), min_size=1, max_size=most)


# A verdict hides what scores come to, so there are policies of scores alone.
RULES = rules_that_come_to(VERDICTS | SCORES, 12) | rules_that_come_to(SCORES, 4)
REVIEW_AT, BLOCK_AT = 50, 100


def compiled(rules: list[tuple[str, str, str, str]], default: str) -> Policy:
    """A policy of those rules that are not refused, and a score that keeps the thresholds within reach."""
    kept = []
    for when, comes_to, scope, mode in rules:
        if first_impossible(LANGUAGE.compile(when).tree(), STATE) is None and "'u'" not in when and "'z'" not in when:
            kept.append(f"[[rule]]\nid = 'r{len(kept)}'\nwhen = \"{when}\"\n{comes_to}\n{scope}\nmode = '{mode}'\nmessage = 'm'\n")
    assume(kept)
    kept.append(f"[[rule]]\nid = 'rest'\nwhen = 'payment.amount_minor == 1'\nscore = {BLOCK_AT}\nmessage = 'm'\n")
    thresholds = f"[thresholds]\nreview = {REVIEW_AT}\nblock = {BLOCK_AT}\n"
    return compile_policy(f"default = '{default}'\n{thresholds}" + "".join(kept), origin=ORIGIN, tools=TOOLS)


def called_for(policy: Policy, fired: tuple[str, ...]) -> str:
    """What the scores of the rules that fired come to, counted here."""
    score = sum(rule.score or 0 for rule in policy.rules if rule.enforced and rule.id in fired)
    return "block" if score >= BLOCK_AT else "review" if score >= REVIEW_AT else "allow"


FLOORS = st.dictionaries(st.sampled_from(sorted(TOOLS)), st.sampled_from(["review", "review", "block", "ignore"]))
"""`ignore` too: for a tool that an enforced rule reads it is refused at the start, but even then nothing would be let through."""


@settings(max_examples=250, deadline=None)
@given(
    RULES,
    st.sampled_from(["allow", "allow", "review", "block"]),
    OUTPUTS,
    FLOORS,
    FLOORS,
)
def test_degraded_is_never_more_permissive(rules, default, outputs, floors, more_floors):
    policy = compiled(rules, default)
    whole_answer = policy.evaluate(PAYMENT, outputs, {})
    before = policy.evaluate(PAYMENT, {tool: output for tool, output in outputs.items() if tool not in floors}, floors)
    floors_after = {**more_floors, **floors}
    after = policy.evaluate(PAYMENT, {tool: output for tool, output in outputs.items() if tool not in floors_after}, floors_after)
    for full, degraded, failed in ((whole_answer, before, floors), (before, after, floors_after)):
        # What is still known is what was known: no rule fires, and none is quiet, that was not so before.
        assert set(degraded.fired) <= set(full.fired)
        assert {rule.id for rule in policy.rules} - {*degraded.fired, *degraded.unknown} <= {rule.id for rule in policy.rules} - set(full.fired)
        assert set(degraded.shadow_fired) <= set(full.shadow_fired) <= {*degraded.shadow_fired, *degraded.shadow_unknown}
        # No review or block becomes an allow.
        assert full.decision == "allow" or degraded.decision != "allow"
        # The verdict is not below what the rules that can still be told say, nor below any floor, nor below the default.
        told = [rule.then for rule in policy.rules if rule.then and rule.id in degraded.fired]
        demanded = [floor for floor in failed.values() if floor != "ignore"]
        floor = max(map(STRICTNESS.__getitem__, [default, *told, *demanded, called_for(policy, degraded.fired)]))
        assert STRICTNESS[degraded.decision] >= floor
        # Nothing that cannot be told is let through: neither a verdict nor a score that could have reached a threshold.
        open_ = [rule for rule in policy.rules if rule.id in degraded.unknown]
        reached = called_for(policy, (*degraded.fired, *(rule.id for rule in open_ if (rule.score or 0) > 0)))
        assert degraded.decision != "allow" or (reached == "allow" and not any(rule.then for rule in open_))
        # What the score might still be lies between what it is and the most that is told of it.
        assert full.score is not None
        assert degraded.score_max is not None
        assert full.score <= full.score_max <= degraded.score_max


@settings(max_examples=150, deadline=None)
@given(RULES, OUTPUTS, st.sets(st.sampled_from(sorted(TOOLS))))
def test_rules_asked_together_say_what_each_says_alone(rules, outputs, missing):
    policy = compiled(rules, "allow")
    known = {tool: output for tool, output in outputs.items() if tool not in missing}
    evaluation = policy.evaluate(PAYMENT, known, dict.fromkeys(missing, "review"))
    facts = policy.language.facts(flat(known) | {"payment.amount_minor": PAYMENT.amount_minor, "payment.currency": PAYMENT.currency})
    truths = {rule.id: rule.expression.truth(facts) for rule in policy.rules}
    enforced = {rule.id for rule in policy.rules if rule.enforced}
    true, open_ = ([identity for identity, truth in truths.items() if truth is wanted] for wanted in (True, None))
    assert evaluation.fired == tuple(identity for identity in true if identity in enforced)
    assert evaluation.unknown == tuple(identity for identity in open_ if identity in enforced)
    assert evaluation.shadow_fired == tuple(identity for identity in true if identity not in enforced)
    assert evaluation.shadow_unknown == tuple(identity for identity in open_ if identity not in enforced)
    assert policy.evaluate(PAYMENT, known, dict.fromkeys(missing, "review")) == evaluation


@settings(max_examples=150, deadline=None)
@given(RULES, st.sampled_from(["allow", "review"]), OUTPUTS, FLOORS)
def test_shadow_rules_change_nothing_but_what_is_told_of_them(rules, default, outputs, floors):
    assume(any(mode == "enforce" for *_, mode in rules))
    policy = compiled(rules, default)
    kept = {rule.id for rule in policy.rules if rule.enforced}
    known = {tool: output for tool, output in outputs.items() if tool not in floors}
    said = policy.evaluate(PAYMENT, known, floors)
    alone = replace(policy, rules=tuple(rule for rule in policy.rules if rule.enforced), groups=tuple(enforced_only(policy.groups)))
    assert alone.evaluate(PAYMENT, known, floors) == replace(said, shadow_fired=(), shadow_unknown=())
    assert {*said.fired, *said.unknown} <= kept
    assert not kept & {*said.shadow_fired, *said.shadow_unknown}


def enforced_only(groups: Iterable[Group]) -> Iterator[Group]:
    for group in groups:
        yield Group(tuple(rule for rule in group.rules if rule.enforced), None)
