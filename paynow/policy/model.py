"""A compiled policy and what it says of a payment: pure, so that any decision can be told again from what was recorded. Knows no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paynow.plugin_api import Payment
from paynow.policy.language import Expression, Facts, Language

STRICTNESS = {"allow": 0, "review": 1, "block": 2}
"""The verdicts, each with how strict it is."""

TOOL_FAILED = "tool_failed"
RULE_FAILED = "rule_failed"
REASON_CODES_RESERVED = frozenset({TOOL_FAILED, RULE_FAILED})
"""Reason codes that no rule may have as its id."""

PAYMENT = "payment"
"""The first part of the names that are the payment's own; no tool's."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a verdict is not `allow`: a rule's id or one of the reserved codes, and a sentence for the people who work with payments.

    `customer_message` is what the one who pays may read. It is written as such or it is None; nothing else is ever put in its place.
    """

    code: str
    message: str
    customer_message: str | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the policy says: the decision, its reasons (strictest first), the rules that fired, and those whose value could not be told.

    `score` is the sum of the scores of the rules that fired, None under a policy without scores; `score_max` is what it could be if those that
    are unknown were true. Shadow rules stand apart and count for nothing.
    """

    decision: str
    reasons: tuple[Reason, ...]
    fired: tuple[str, ...]
    unknown: tuple[str, ...]
    score: int | None = None
    score_max: int | None = None
    shadow_fired: tuple[str, ...] = ()
    shadow_unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which score on a review or a block is called for; None: never."""

    review: int | None
    block: int | None

    def verdict(self, score: int) -> str:
        """What a score calls for."""
        if self.block is not None and score >= self.block:
            return "block"
        return "review" if self.review is not None and score >= self.review else "allow"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: if its condition is true, the verdict is at least `then`, or `score` is added to the payment's; one of the two is None.

    `when` is the whole condition, what `currency` and `amount` stand for included. One that is not `enforced` is only watched.
    `names` are those it reads, `tools` the tools that say them. `needs_tools`: it cannot be told if none of these answers, whatever is paid.
    """

    id: str
    when: str
    then: str | None
    score: int | None
    enforced: bool
    reason: Reason
    names: frozenset[str]
    tools: frozenset[str]
    needs_tools: bool
    expression: Expression = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Group:
    """Some rules next to each other, and one expression whose bits say which of them are true, the first rule's the lowest. It has no value if one of
    them has none. None: it would be nested too deeply."""

    rules: tuple[Rule, ...]
    which: Expression | None = field(repr=False, compare=False)

    @property
    def ids(self) -> list[str]:
        return [rule.id for rule in self.rules]


@dataclass(frozen=True, slots=True)
class Policy:
    """A set of rules that passed every check. `version` names the text: equal texts have equal versions."""

    version: str
    text: str
    default: str
    thresholds: Thresholds | None
    """None if no rule has a score."""
    rules: tuple[Rule, ...]
    examples: int
    """How many examples were run when it was compiled, and hold."""
    tools_read: frozenset[str]
    """The tools that an enforced rule reads; `on_failure = "ignore"` must be refused for them."""
    groups: tuple[Group, ...] = field(repr=False, compare=False)
    language: Language = field(repr=False, compare=False)
    payment_read: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)
    outputs_read: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = field(init=False, repr=False, compare=False)
    quiet: Evaluation = field(init=False, repr=False, compare=False)
    """What it says if all tools answered and no rule is true: mostly."""

    def __post_init__(self) -> None:
        # Handing a name over costs time, so only those that rules read are: each with the field it is the value of.
        tools = sorted(frozenset().union(*(rule.tools for rule in self.rules)))
        read = {tool: _fields_read(tool, self.rules) for tool in (PAYMENT, *tools)}
        object.__setattr__(self, "payment_read", read.pop(PAYMENT))
        object.__setattr__(self, "outputs_read", tuple(read.items()))
        object.__setattr__(self, "quiet", self._judged((), (), {}))

    def evaluate(self, payment: Payment, outputs: Mapping[str, Mapping[str, Any]], floors: Mapping[str, str]) -> Evaluation:
        """The strictest of the default, of the rules that fire, of what their scores come to, and of `floors`: what each failed tool demands
        (`block`, `review`, `ignore`).

        An output of a tool that stands in `floors` is not looked at. Same arguments, same result.
        """
        fired, unknown = self._told(self._facts(payment, outputs, floors), floors)
        return self._judged(fired, unknown, floors) if fired or unknown or floors else self.quiet

    def _judged(self, all_fired: Sequence[Rule], all_unknown: Sequence[Rule], floors: Mapping[str, str]) -> Evaluation:
        fired = [rule for rule in all_fired if rule.enforced]
        unknown = [rule for rule in all_unknown if rule.enforced]
        score, score_max = self._scores(fired, unknown)
        demanding = {tool for tool, floor in floors.items() if floor != "ignore"}
        called_for, perhaps = self._called_for(score), self._called_for(score_max)
        reasons = [(rule.then or called_for, rule.reason) for rule in fired if rule.then or (called_for != "allow" and (rule.score or 0) > 0)]
        for rule in unknown:
            # A score matters only if the verdict might be another with it. A failed tool's fallback speaks for all rules that read the tool.
            if (rule.then or (perhaps != called_for and (rule.score or 0) > 0)) and rule.tools.isdisjoint(demanding):
                reasons.append(("review", Reason(RULE_FAILED, f"rule {rule.id} could not be evaluated")))
        reasons += [(floors[tool], Reason(TOOL_FAILED, f"{tool} gave no answer")) for tool in sorted(demanding)]
        reasons.sort(key=lambda reason: -STRICTNESS[reason[0]])
        return Evaluation(
            decision=max([self.default, *(verdict for verdict, _ in reasons)], key=STRICTNESS.__getitem__),
            reasons=tuple(reason for _, reason in reasons),
            fired=tuple(rule.id for rule in fired),
            unknown=tuple(rule.id for rule in unknown),
            score=score,
            score_max=score_max,
            shadow_fired=tuple(rule.id for rule in all_fired if not rule.enforced),
            shadow_unknown=tuple(rule.id for rule in all_unknown if not rule.enforced),
        )

    def _scores(self, fired: Sequence[Rule], unknown: Sequence[Rule]) -> tuple[int | None, int | None]:
        """The score, and what it could be: a score that is unknown counts as reached, a deduction that is unknown as not."""
        if self.thresholds is None:
            return None, None
        score = sum(rule.score or 0 for rule in fired)
        return score, score + sum(max(rule.score or 0, 0) for rule in unknown)

    def _called_for(self, score: int | None) -> str:
        return "allow" if score is None or self.thresholds is None else self.thresholds.verdict(score)

    def _facts(self, payment: Payment, outputs: Mapping[str, Mapping[str, Any]], floors: Mapping[str, str]) -> Facts:
        values: dict[str, Any] = {name: getattr(payment, field) for name, field in self.payment_read}
        for tool, read in self.outputs_read:
            if tool in outputs and tool not in floors:
                said = outputs[tool]
                values.update({name: said[field] for name, field in read if field in said})
        return self.language.facts(values)

    def _told(self, facts: Facts, floors: Mapping[str, str]) -> tuple[list[Rule], list[Rule]]:
        """The rules that fire, and those whose value cannot be told. The cost lies in the calls, so a group is asked at once if it can be,
        and a rule that is lost without the tools that failed is not asked at all."""
        fired: list[Rule] = []
        unknown: list[Rule] = []
        lost = {rule.id for rule in self.rules if rule.needs_tools and rule.tools <= floors.keys()} if floors else _NONE
        for group in self.groups:
            bits = None if group.which is None or (lost and not lost.isdisjoint(group.ids)) else group.which.number(facts)
            if bits is None:
                for rule in group.rules:
                    truth = None if rule.id in lost else rule.expression.truth(facts)
                    if truth is None:
                        unknown.append(rule)
                    elif truth:
                        fired.append(rule)
            elif bits:
                fired += [rule for at, rule in enumerate(group.rules) if bits >> at & 1]
        return fired, unknown


_NONE: frozenset[str] = frozenset()


def _fields_read(tool: str, rules: tuple[Rule, ...]) -> tuple[tuple[str, str], ...]:
    names = sorted({name for rule in rules for name in rule.names if name.partition(".")[0] == tool})
    return tuple((name, name.partition(".")[2]) for name in names)
