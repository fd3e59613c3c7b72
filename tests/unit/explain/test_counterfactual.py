"""What would have changed a verdict, case by case, in the words that people read."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from paynow.explain import counterfactual
from paynow.explain.counterfactual import Search, search
from paynow.explain.wording import claim_text
from paynow.plugin_api import Field, Payment, choice, flag, real, whole
from paynow.policy import compile_policy

TOOLS: dict[str, dict[str, Field]] = {
    "t": {"n": whole(minimum=0), "m": whole(), "r": real(minimum=0), "f": flag(), "w": choice("x", "y", "z"), "spent_minor": whole(minimum=0)},
    "u": {"n": whole(minimum=0, maximum=6), "f": flag()},
}
SAID: dict[str, dict[str, Any]] = {
    "t": {"n": 3, "m": 5, "r": 1.0, "f": False, "w": "x", "spent_minor": 0},
    "u": {"n": 0, "f": False},
}


def looked_for(*rules: tuple[str, str], default: str = "allow", floors: dict[str, str] | None = None, amount: int = 50_000, **said: Any) -> Search:
    text = f"default = '{default}'\n" + "".join(
        f"[[rule]]\nid = 'r{number}'\nwhen = '''{when}'''\nthen = '{then}'\nmessage = 'm'\n" for number, (when, then) in enumerate(rules)
    )
    policy = compile_policy(text, origin="test", tools=TOOLS)
    outputs = {"t": {**SAID["t"], **said}, "u": SAID["u"]}
    floors = floors or {}
    payment = Payment(UUID(int=1), "c_1", "p_1", amount, "USD")
    return search(policy, payment, {tool: output for tool, output in outputs.items() if tool not in floors}, floors, TOOLS)


def texts(found: Search) -> list[str]:
    return [claim_text(claim, "USD") for claim in found.found]


@pytest.mark.parametrize(
    ("rules", "said", "expected"),
    [
        ([("payment.amount_minor > 25000", "review")], {}, ["allowed if amount ≤ 250.00 USD"]),
        ([("!t.f", "block")], {}, ["allowed if t.f were true"]),
        ([("t.w != 'y'", "review")], {}, ['allowed if t.w were "y"']),
        ([("payment.payee_id == 'p_1'", "block")], {}, ["allowed if payment.payee_id were another"]),
        ([("t.r >= 1.0", "review")], {}, ["allowed if t.r < 1.0"]),
        ([("t.r > 0.5", "review")], {}, ["allowed if t.r ≤ 0.5"]),
        ([("t.spent_minor + payment.amount_minor >= 40000", "review")], {}, ["allowed if amount ≤ 399.99 USD"]),
        ([("t.n < 5", "review"), ("t.n > 7", "block")], {}, ["allowed if t.n ≥ 5 and ≤ 7", "blocked if t.n ≥ 8"]),
        ([("t.n in [3, 4]", "review")], {}, ["allowed if t.n ≤ 2", "allowed if t.n ≥ 5"]),
        ([("double(t.n) > 2.5", "review")], {}, ["allowed if t.n ≤ 2"]),
    ],
)
def test_one_thing(rules, said, expected):
    found = looked_for(*rules, **said)
    assert texts(found) == expected
    assert found.complete


def test_a_calculation_that_leaves_64_bits_ends_a_stretch():
    """`t.m + 1` has no value at the largest number, so the rule is unknown there, which is a review."""
    last = 2**63 - 1
    assert texts(looked_for(("t.m + 1 < 0", "block"))) == [f"reviewed if t.m were {last}", "blocked if t.m ≤ -2"]
    assert f"allowed if t.m ≥ -1 and ≤ {last - 1}" in texts(looked_for(("t.m + 1 < 0", "block"), m=-5))


def test_where_no_stretch_can_be_promised_a_single_value_is_claimed():
    """Of every seven one is harmless: nothing about a range would be true."""
    found = looked_for(("t.n % 7 != 0", "review"))
    assert [claim.alterations[0].low == claim.alterations[0].high for claim in found.found] == [True, True]
    assert all(claim.alterations[0].low % 7 == 0 for claim in found.found)


def test_two_things_are_told_where_one_is_not_enough():
    found = looked_for(("payment.amount_minor > 25000", "review"), ("!t.f", "review"))
    assert texts(found) == ["allowed if amount ≤ 250.00 USD and t.f were true"]


def test_two_numbers_that_depend_on_each_other_are_a_range_and_a_value():
    found = looked_for(("t.n + u.n > 2", "review"), ("u.n < 1", "block"))
    assert "allowed if t.n ≤ 1 and u.n were 1" in texts(found)


def test_a_fallback_and_a_default_limit_what_is_possible_and_it_is_said_so():
    found = looked_for(("t.n > 1", "block"), ("u.f", "review"), floors={"u": "review"})
    assert texts(found) == ["reviewed if t.n ≤ 1"]
    assert found.notes == ("u gave no answer, and nothing milder than review is said without it",)
    found = looked_for(("t.n > 1", "block"), default="review")
    assert texts(found) == ["reviewed if t.n ≤ 1"]
    assert found.notes == ("nothing milder than review is said by this policy: it is its default",)


def test_nothing_that_can_be_said_changes_a_rule_that_is_always_true():
    found = looked_for(("t.n >= 0", "block"))
    assert (found.found, found.complete) == ((), True)


def test_the_search_is_bounded_and_says_so(monkeypatch):
    monkeypatch.setattr(counterfactual, "EVALUATIONS_MAX", 5)
    found = looked_for(*((f"t.n > {number} && t.m > {number} && u.n == 0", "review") for number in range(20, 40)), n=100, m=100)
    assert not found.complete
    assert found.evaluations < 20
