"""What fails, which fallback holds, and which verdict comes of it: told by asking the code that decides, for one plan and one policy. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from paynow.agent.outcome import ERROR, INVALID, SKIPPED, TIMEOUT
from paynow.agent.plan import Plan
from paynow.errors import LimiterUnavailable, refusals
from paynow.payments.answer import INSUFFICIENT_FUNDS
from paynow.plugin_api import Field, Payment, whole
from paynow.policy import STRICTNESS, Evaluation, Policy, compile_policy

FALLBACKS = ("block", "review", "ignore")
TOOL = "tool"
"""The tool of the small policies that are asked here; `tool.divisor` is zero in them."""
FAILS = f"1 / {TOOL}.divisor == 1"

_TOOLS: Mapping[str, Mapping[str, Field]] = {TOOL: {"divisor": whole()}}
_PAYMENT = Payment(UUID(int=0), "c_example", "p_example", 100, "USD")


PAGE = """\
# What fails, and what is decided then

This page is made by `paynow policy table`: each verdict in it is what the code that decides says when it is asked. The tools and
rules are those of the configuration; on your own machine the command shows yours. [agent.md](agent.md) tells how tools are called,
[policy.md](policy.md) how rules are read.

## A tool gives no answer

All ways of failing ({statuses}) are the same to the verdict once the last attempt is over: the tool's
`on_failure` is the least that it can be.

{fallbacks}

`ignore` is refused at the start for a tool that an enforced rule reads. The answer is `degraded` in all three cases.

{tools}

## A rule cannot be evaluated

Its tools answered, but there is no value: a division by zero, a number beyond 64 bits. Nothing else is true of the payment here.

{rules}

## After the verdict

{later}

## No verdict

The caller gets a problem and asks again with the same key. No verdict is written because something was down; a payment that was
begun may still be decided.

{refusals}
"""


def decision_table(plan: Plan, policy: Policy, *, on_store_failure: str) -> str:
    """The page in Markdown for these tools with their fallbacks, these rules, and what is done when the rate limiter's store is down."""
    return PAGE.format(
        statuses=", ".join(f"`{status}`" for status in (ERROR, TIMEOUT, INVALID, SKIPPED)),
        fallbacks=_table(("`on_failure`", *(f"the rest says {verdict}" for verdict in STRICTNESS), "reason"), _fallback_rows()),
        tools=_table(("tool", "attempts", "`on_failure`", "verdict without it", "rules that may be unknown then"), _tool_rows(plan, policy)),
        rules=_table(("rule", "verdict", "reason"), _rule_rows()),
        later=_table(("what", "verdict", "what follows"), _later_rows(plan)),
        refusals=_table(("what", "answer"), _refusal_rows(on_store_failure)),
    )


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)])


def _fallback_rows() -> Iterator[Sequence[str]]:
    for floor in FALLBACKS:
        said = [compile_policy(f'default = "{rest}"', origin=TOOL, tools=_TOOLS).evaluate(_PAYMENT, {}, {TOOL: floor}) for rest in STRICTNESS]
        yield f"`{floor}`", *(one.decision for one in said), _reasons(said[0])


def _tool_rows(plan: Plan, policy: Policy) -> Iterator[Sequence[str]]:
    for planned in plan.gather:
        name, settings = planned.tool.name, planned.settings
        without = compile_policy("", origin=TOOL, tools={}).evaluate(_PAYMENT, {}, {name: settings.on_failure})
        readers = [f"`{rule.id}`" + ("" if rule.enforced else " (shadow)") for rule in policy.rules if name in rule.tools]
        at_least = {"block": "block", "review": "review or block"}.get(without.decision, "what the rules say")
        yield f"`{name}`", str(settings.attempts), f"`{settings.on_failure}`", at_least, ", ".join(readers) or "none"


def _rule_rows() -> Iterator[Sequence[str]]:
    for what, keys in (
        ('with `then = "review"`', 'then = "review"'),
        ('with `then = "block"`', 'then = "block"'),
        ("with a score that could reach the threshold for a review", "score = 50"),
        ("with a score that could reach the threshold for a block", "score = 100"),
        ("with a score too small for any threshold", "score = 49"),
        ("with a deduction", "score = -50"),
        ('in shadow (`mode = "shadow"`)', 'then = "block"\nmode = "shadow"'),
    ):
        said = _probe(keys).evaluate(_PAYMENT, {TOOL: {"divisor": 0}}, {})
        yield what, said.decision, _reasons(said)


def _probe(keys: str) -> Policy:
    """A policy of one rule, and one that is never true and keeps the thresholds within reach."""
    rest = '[[rule]]\nid = "rest"\nwhen = "payment.amount_minor == 1"\nscore = 100\nmessage = "m"\n'
    rule = f'[[rule]]\nid = "rule"\nwhen = "{FAILS}"\n{keys}\nmessage = "m"\n'
    return compile_policy(f"[thresholds]\nreview = 50\nblock = 100\n{rest}{rule}", origin=TOOL, tools=_TOOLS)


def _reasons(said: Evaluation) -> str:
    return ", ".join(f"`{reason.code}`" for reason in said.reasons) or "none"


def _later_rows(plan: Plan) -> Iterator[Sequence[str]]:
    funds = f"`{INSUFFICIENT_FUNDS.code}`"
    yield "the settle finds less money than an allow needs", "block", f"the reason is {funds}; nothing is reserved"
    for planned in plan.on_review:
        name, attempts = planned.tool.name, planned.settings.attempts
        yield f"`{name}` fails {attempts} times", "review", "the decision stands, the trace says it, and the completer goes on trying"
    yield (
        "the process dies before the settle",
        "none yet",
        "a retry or the completer decides it, under the policy it was claimed under",
    )
    yield "the process dies after the settle", "the stored one", "a retry gets it, byte for byte"


def _refusal_rows(on_store_failure: str) -> Iterator[Sequence[str]]:
    for refusal in refusals():
        if refusal.retryable:
            answered = f"{refusal.status} `{refusal.code}`"
            if refusal is not LimiterUnavailable:
                yield refusal.title, answered
            elif on_store_failure == "local":
                yield "The rate limiter's store is down (`rate_limit.on_store_failure` is `local`)", "decided, limited within the process"
            else:
                yield f"The rate limiter's store is down (`rate_limit.on_store_failure` is `{on_store_failure}`)", answered
