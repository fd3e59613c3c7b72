"""Properties over random policies and outputs: every claim is true wherever it says so, and what one small change can do is found."""

from __future__ import annotations

import math
import random
from itertools import product
from typing import Any
from uuid import UUID

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from paynow.errors import ConfigurationRefused
from paynow.explain.counterfactual import FOUND_MAX, Alteration, Counterfactual, Search, search
from paynow.plugin_api import Field, Payment, choice, flag, real, text, whole
from paynow.policy import STRICTNESS, Policy, compile_policy

TOOLS: dict[str, dict[str, Field]] = {
    "a": {"n": whole(minimum=0, maximum=6), "m": whole(), "f": flag(), "w": choice("x", "y", "z")},
    "b": {"n": whole(minimum=0, maximum=6), "r": real(minimum=0), "s": real(), "f": flag(), "t": text()},
}
PAYMENT = Payment(UUID(int=1), "c_1", "p_1", 12_550, "USD")

WHOLE = st.sampled_from(["a.n", "a.m", "b.n", "payment.amount_minor"])
NUMBER = st.sampled_from([-3, -1, 0, 1, 2, 3, 5, 7, 100, 12_550, 2**40]).map(str)
REAL = st.sampled_from(["b.r", "b.s", "double(a.n)", "double(payment.amount_minor)"])
REAL_NUMBER = st.sampled_from(["-1.5", "0.0", "0.5", "1.0", "2.5", "100.0", "9007199254740993.0"])
COMPARISON = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
SUM = st.recursive(
    WHOLE | NUMBER,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from("++--*%/"), inner)
        | st.builds("-({})".format, inner)
        | st.builds("({} ? {} : {})".format, st.sampled_from(["a.f", "a.n > 2"]), inner, inner)
    ),
    max_leaves=3,
)
CONDITION = st.recursive(
    st.builds("{} {} {}".format, SUM, COMPARISON, SUM)
    | st.builds("{} {} {}".format, WHOLE, COMPARISON, NUMBER)
    | st.builds("{} {} {}".format, REAL, COMPARISON, REAL_NUMBER | REAL)
    | st.builds("{} in [{}, {}]".format, WHOLE, NUMBER, WHOLE)
    | st.sampled_from(["a.f", "b.f", "a.w == 'x'", "a.w in ['y', 'z']", "b.t == 'u'", "payment.payee_id == 'p_1'", "payment.currency == 'USD'"]),
    lambda inner: (
        st.builds("({} && {})".format, inner, inner)
        | st.builds("({} || {})".format, inner, inner)
        | st.builds("!({})".format, inner)
        | st.builds("({} ? {} : {})".format, inner, inner, inner)
    ),
    max_leaves=4,
)
RULES = st.lists(st.tuples(CONDITION, st.sampled_from(["review", "block"])), min_size=1, max_size=6)
DEFAULT = st.sampled_from(["allow", "allow", "allow", "review", "block"])
OUTPUTS = st.fixed_dictionaries(
    {
        "a": st.fixed_dictionaries(
            {
                "n": st.integers(0, 6),
                "m": st.sampled_from([-(2**63), -5, 0, 1, 7, 12_550, 2**40, 2**63 - 1]),
                "f": st.booleans(),
                "w": st.sampled_from("xyz"),
            }
        ),
        "b": st.fixed_dictionaries(
            {
                "n": st.integers(0, 6),
                "r": st.sampled_from([0.0, 0.5, 0.75, 2.5, 1e300]),
                "s": st.sampled_from([-1e300, -1.5, 0.0, 1.0, 99.9]),
                "f": st.booleans(),
                "t": st.sampled_from(["u", "v", ""]),
            }
        ),
    }
)
FLOORS = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["review", "block"]), max_size=1)


def compiled(rules: list[tuple[str, str]], default: str) -> Policy:
    """A policy of those rules that are not refused."""
    kept: list[str] = []
    for when, then in rules:
        written = f"[[rule]]\nid = 'r{len(kept)}'\nwhen = \"{when}\"\nthen = '{then}'\nmessage = 'm'\n"
        try:
            compile_policy(written, origin="test", tools=TOOLS)
        except ConfigurationRefused:
            continue
        kept.append(written)
    assume(kept)
    return compile_policy(f"default = '{default}'\n" + "".join(kept), origin="test", tools=TOOLS)


def verdict(policy: Policy, outputs: dict[str, dict[str, Any]], floors: dict[str, str], changes: dict[str, Any]) -> str:
    payment = {name: getattr(PAYMENT, name) for name in ("payment_id", "customer_id", "payee_id", "amount_minor", "currency")}
    said = {tool: dict(output) for tool, output in outputs.items()}
    for name, value in changes.items():
        tool, _, field = name.partition(".")
        (payment if tool == "payment" else said[tool])[field] = value
    return policy.evaluate(Payment(**payment), said, floors).decision


def found_for(policy: Policy, outputs: dict[str, dict[str, Any]], floors: dict[str, str]) -> tuple[Search, dict[str, dict[str, Any]]]:
    answered = {tool: output for tool, output in outputs.items() if tool not in floors}
    return search(policy, PAYMENT, answered, floors, TOOLS), answered


def values_in(one: Alteration, chance: random.Random) -> list[Any]:
    """The ends of what is claimed, and values between them: near the ends, near zero, and anywhere."""
    if isinstance(one.low, (bool, str)):
        return [one.low]
    values = {one.low, one.high}
    if isinstance(one.low, int):
        near = [edge + step for edge in (one.low, one.high, 0, one.recorded) for step in range(-8, 9)]
        values |= {value for value in [*near, *(chance.randint(one.low, one.high) for _ in range(20))] if one.low <= value <= one.high}
    else:
        near = [math.nextafter(edge, towards) for edge in (one.low, one.high, 0.0, 1.0, 2.5) for towards in (-math.inf, math.inf)]
        anywhere = [one.low + chance.random() * min(one.high - one.low, 1e308) for _ in range(20)]
        values |= {value for value in [*near, 0.0, 0.5, 1.0, 2.5, 100.0, *anywhere] if one.low <= value <= one.high}
    return sorted(values)


@settings(max_examples=200, deadline=None)
@given(RULES, DEFAULT, OUTPUTS, FLOORS, st.randoms(use_true_random=False))
def test_every_claim_is_true_wherever_it_says_so(rules, default, outputs, floors, chance):
    policy = compiled(rules, default)
    found, answered = found_for(policy, outputs, floors)
    now = verdict(policy, answered, floors, {})
    for claim in found.found:
        assert claim.decision != now
        names = [one.name for one in claim.alterations]
        assert all(one.low <= one.high and not one.low <= one.recorded <= one.high for one in claim.alterations)
        choices = [values_in(one, chance) for one in claim.alterations]
        picked = list(product(*choices)) if math.prod(map(len, choices)) <= 400 else [tuple(map(chance.choice, choices)) for _ in range(400)]
        for values in picked:
            assert verdict(policy, answered, floors, dict(zip(names, values, strict=True))) == claim.decision, claim


@settings(max_examples=120, deadline=None)
@given(RULES, DEFAULT, OUTPUTS, FLOORS)
def test_what_one_small_change_can_do_is_found(rules, default, outputs, floors):
    policy = compiled(rules, default)
    found, answered = found_for(policy, outputs, floors)
    now = verdict(policy, answered, floors, {})
    claims = {(claim.decision, claim.alterations[0].name) for claim in found.found if len(claim.alterations) == 1}
    assume(found.complete and len(found.found) < FOUND_MAX)
    read = {name for rule in policy.rules for name in rule.names}
    for tool, name, values in (("a", "n", range(7)), ("b", "n", range(7)), ("a", "f", (True, False)), ("b", "f", (True, False)), ("a", "w", "xyz")):
        if tool in answered and f"{tool}.{name}" in read:
            reached = {verdict(policy, answered, floors, {f"{tool}.{name}": value}) for value in values} - {now}
            assert {(decision, f"{tool}.{name}") for decision in reached} <= claims


@settings(max_examples=80, deadline=None)
@given(RULES, DEFAULT, OUTPUTS, FLOORS)
def test_nothing_milder_than_a_fallback_or_the_default_is_claimed(rules, default, outputs, floors):
    policy = compiled(rules, default)
    found, _ = found_for(policy, outputs, floors)
    assert all(STRICTNESS[claim.decision] >= max(map(STRICTNESS.__getitem__, [default, *floors.values()])) for claim in found.found)


def test_a_claim_that_is_not_true_would_be_seen():
    policy = compile_policy("[[rule]]\nid='r'\nwhen='a.n > 2'\nthen='review'\nmessage='m'\n", origin="test", tools=TOOLS)
    wrong = Counterfactual("allow", (Alteration("a.n", 5, 0, 3, least=True),))
    told = [verdict(policy, {"a": {"n": 5}}, {}, {"a.n": value}) for value in values_in(wrong.alterations[0], random.Random(1))]
    assert set(told) == {"allow", "review"}
