"""The tests in a policy file: a payment, what the tools say of it, and the verdict that is expected. Knows a policy by what it answers."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from paynow import money
from paynow.plugin_api import Field, Payment
from paynow.policy.literals import minor_of
from paynow.policy.model import PAYMENT, STRICTNESS, Evaluation, Policy
from paynow.policy.source import MESSAGE_LENGTH_MAX, Fault, Finding, Written, fault_of_text, is_whole, meant
from paynow.policy.vocabulary import meaning_of

GIVEN_KEYS = ("payment", "signals", "failed")
EXPECTED_KEYS = ("expect", "reasons", "score", "shadow")
EXAMPLE_KEYS = ("name", *GIVEN_KEYS, *EXPECTED_KEYS)
PAYMENT_KEYS = ("amount", "currency", "customer_id", "payee_id")
ID_LENGTH_MAX = 64
PARTIES = {"customer_id": "c_example", "payee_id": "p_example"}
"""Who pays whom if an example does not say."""
FALLBACKS = ("review", "block")

Tools = Mapping[str, Mapping[str, Field]]


@dataclass(frozen=True, slots=True)
class Example:
    """One example: what the policy is handed, and the file's table with what is expected of it."""

    written: Written
    payment: Payment
    outputs: Mapping[str, Mapping[str, Any]]
    floors: Mapping[str, str]


def read_examples(defaults: Written | None, written: Sequence[Written], tools: Tools) -> tuple[list[Example], list[Finding]]:
    """The examples of a file over its `[example_defaults]`, and everything that is wrong with them as they stand; one that is wrong is left out."""
    findings: list[Finding] = []
    base: Mapping[str, Any] = {}
    if defaults is not None:
        faults = [*_unknown_keys(defaults.values, GIVEN_KEYS), *_given_faults(defaults.values, tools)]
        findings += [defaults.finding(path, message) for path, message in faults]
        base = {} if faults else defaults.values
    examples: list[Example] = []
    for one in written:
        faults = [*_example_faults(one.values), *_given_faults(one.values, tools)]
        faults = faults or list(_payment_faults(_payment(base, one.values)))
        findings += [one.finding(path, message) for path, message in faults]
        if not faults:
            examples.append(_example(base, one, tools))
    return examples, findings


def broken(example: Example, policy: Policy) -> Iterator[Finding]:
    """In which ways the policy does not say what an example expects."""
    written, values = example.written, example.written.values
    ignored = [tool for tool, floor in example.floors.items() if floor == "ignore" and tool in policy.tools_read]
    if ignored:
        yield written.finding(("failed", ignored[0]), f'a failure of {ignored[0]} cannot be ignored, because a rule reads it: "review" or "block"')
        return
    said = policy.evaluate(example.payment, example.outputs, example.floors)
    silent = list(_silent(example, policy, [*said.unknown, *(said.shadow_unknown if "shadow" in values else ())]))
    if silent:
        yield written.finding((), "; ".join(silent))
        return
    told = {
        "expect": said.decision,
        "reasons": sorted(reason.code for reason in said.reasons),
        "score": said.score,
        "shadow": sorted(said.shadow_fired),
    }
    for key in EXPECTED_KEYS:
        expected = sorted(values[key]) if isinstance(values.get(key), list) else values.get(key)
        if key in values and expected != told[key]:
            what = "the verdict" if key == "expect" else f"`{key}`"
            yield written.finding((key,), f"{what} is {_spoken(told[key])}, not {_spoken(expected)}; {_summary(said)}")


def _silent(example: Example, policy: Policy, unknown: Sequence[str]) -> Iterator[str]:
    """Rules that could not be told because the example says nothing of what they read: that is no failed tool, but an example cut short."""
    for rule in policy.rules:
        missing = sorted(name for name in rule.names if rule.id in unknown and not _is_said(name, example))
        if missing:
            tool = missing[0].partition(".")[0]
            yield (
                f"says nothing of {', '.join(f'`{name}`' for name in missing)}, which rule {rule.id} reads: "
                f'say it in `signals`, here or in [example_defaults], or let the tool fail: failed = {{ {tool} = "review" }}'
            )


def _is_said(name: str, example: Example) -> bool:
    tool, _, field = name.partition(".")
    return tool == PAYMENT or tool in example.floors or field in example.outputs.get(tool, {})


def _summary(said: Evaluation) -> str:
    score = () if said.score is None else (f"score {said.score}",)
    return "; ".join((f"fired: {_spoken(said.fired)}", f"unknown: {_spoken(said.unknown)}", *score))


def _spoken(value: Any) -> str:
    return (", ".join(value) or "none") if isinstance(value, (list, tuple)) else str(value)


def _payment(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {**PARTIES, **base.get("payment", {}), **values.get("payment", {})}


def _example(base: Mapping[str, Any], written: Written, tools: Tools) -> Example:
    """What an example says itself goes before the defaults; a tool that it says something of has not failed, whatever those say."""
    values = written.values
    payment, signals = _payment(base, values), values.get("signals", {})
    floors = {**{tool: floor for tool, floor in base.get("failed", {}).items() if tool not in signals}, **values.get("failed", {})}
    outputs = {
        tool: {
            name: float(value) if tools[tool][name].kind is float else value
            for name, value in {**base.get("signals", {}).get(tool, {}), **signals.get(tool, {})}.items()
        }
        for tool in tools
        if tool not in floors
    }
    amount_minor = minor_of(payment["amount"], payment["currency"])
    return Example(written, Payment(UUID(int=0), payment["customer_id"], payment["payee_id"], amount_minor, payment["currency"]), outputs, floors)


def _unknown_keys(values: Mapping[str, Any], known: Sequence[str], path: Sequence[str] = ()) -> Iterator[Fault]:
    for key in values:
        if key not in known:
            yield (*path, key), f"unknown key `{key}`{meant(key, known)}"


def _example_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _unknown_keys(values, EXAMPLE_KEYS)
    for key in ("name", "expect"):
        if key not in values:
            yield (), f"has no `{key}`"
    name = values.get("name", "-")
    fault = fault_of_text("name", name, MESSAGE_LENGTH_MAX) if isinstance(name, str) else "`name` must be a text in quotes"
    if fault:
        yield ("name",), fault
    if "expect" in values and values["expect"] not in tuple(STRICTNESS):
        yield ("expect",), '`expect` must be "allow", "review" or "block"'
    for key in ("reasons", "shadow"):
        codes = values.get(key, [])
        if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
            yield (key,), f"`{key}` must be a list of rule ids in quotes"
    if not is_whole(values.get("score", 0)):
        yield ("score",), "`score` must be a whole number"
    for tool in _both(values):
        yield ("failed", tool), f"{tool} stands in `signals` and in `failed`: a tool that failed says nothing"


def _both(values: Mapping[str, Any]) -> list[str]:
    signals, failed = values.get("signals"), values.get("failed")
    return [tool for tool in failed if tool in signals] if isinstance(signals, dict) and isinstance(failed, dict) else []


def _given_faults(values: Mapping[str, Any], tools: Tools) -> Iterator[Fault]:
    tables = [key for key in GIVEN_KEYS if key in values]
    for key in tables:
        if not isinstance(values[key], dict):
            yield (key,), f"`{key}` must be a table"
    given = {key: values[key] for key in tables if isinstance(values[key], dict)}
    yield from _unknown_keys(given.get("payment", {}), PAYMENT_KEYS, ("payment",))
    for tool, said in given.get("signals", {}).items():
        yield from _signal_faults(tool, said, tools)
    for tool, floor in given.get("failed", {}).items():
        if tool not in tools:
            yield ("failed", tool), _no_tool(tool, tools)
        elif floor not in (*FALLBACKS, "ignore"):
            yield ("failed", tool), f'the fallback of {tool} must be "review" or "block" (or "ignore", if no rule reads the tool)'


def _no_tool(tool: str, tools: Tools) -> str:
    near = difflib.get_close_matches(tool, tools, 1)
    return f"no tool `{tool}` can be read" + (f"; did you mean `{near[0]}`?" if near else f"; there are {', '.join(sorted(tools)) or 'none'}")


def _signal_faults(tool: str, said: Any, tools: Tools) -> Iterator[Fault]:
    if tool not in tools:
        yield ("signals", tool), _no_tool(tool, tools)
        return
    if not isinstance(said, dict):
        yield ("signals", tool), f"`{tool}` must be a table of what it says"
        return
    fields = tools[tool]
    yield from _unknown_keys(said, tuple(fields), ("signals", tool))
    for field, value in said.items():
        name = f"{tool}.{field}"
        if field in fields and not fields[field].accepts(value):
            yield ("signals", tool, field), f"`{name}` must be {meaning_of(name, fields[field])}"


def _payment_faults(payment: Mapping[str, Any]) -> Iterator[Fault]:
    for key in ("amount", "currency"):
        if key not in payment:
            yield ("payment",), f"`payment` has no `{key}`, and [example_defaults] has none either"
    for key in PARTIES:
        if not isinstance(payment[key], str) or not 1 <= len(payment[key]) <= ID_LENGTH_MAX:
            yield ("payment", key), f"`{key}` must be a text of 1 to {ID_LENGTH_MAX} characters"
    if "amount" in payment and "currency" in payment:
        currency = payment["currency"]
        try:
            amount_minor = minor_of(payment["amount"], currency)
        except ValueError as error:
            yield ("payment", "amount" if isinstance(currency, str) and currency in money.exponents() else "currency"), str(error)
        else:
            if amount_minor < 1:
                yield ("payment", "amount"), "the amount must be greater than zero"
