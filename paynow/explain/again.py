"""Policies as they were when a decision was made: also if the tools that they read have changed or gone since. Pure.

A policy is checked against the outputs that tools declare. To evaluate it only the kinds matter, and those the record itself shows.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paynow.errors import ConfigurationRefused
from paynow.payments.recorded import Difference, Recorded, RecordUnreadable, decide_again, read_answer
from paynow.plugin_api import Field, Payment
from paynow.policy import Policy, compile_policy
from paynow.policy.model import PAYMENT

KINDS = (bool, int, float, str)
KEPT_MAX = 64
_NAME = re.compile(r"(?<![\w.])([a-z]\w*)\.([a-z]\w*)(?![\w(])")

Outputs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A policy, and of each tool's fields that it reads the kind that it takes them for."""

    policy: Policy
    kinds: tuple[tuple[str, str, type], ...]

    def fits(self, outputs: Outputs) -> bool:
        """Whether what was recorded is of these kinds."""
        for tool, name, kind in self.kinds:
            said = outputs.get(tool)
            if said is not None and name in said and type(said[name]) is not kind:
                return False
        return True


class PastPolicies:
    """Policies by version, compiled as records need them. `text_of` gives the text of a version, or None if it is not stored."""

    def __init__(self, declared: Mapping[str, Mapping[str, Field]], text_of: Callable[[str], str | None]) -> None:
        self._declared = declared
        self._text_of = text_of
        self._compiled: dict[str, list[_Compiled]] = {}

    def of(self, version: str, outputs: Outputs) -> Policy | None:
        """The policy of that version, over outputs of the kinds that were recorded; None if it is not stored.

        Raises `ConfigurationRefused` if it does not compile any more.
        """
        for compiled in self._compiled.get(version, ()):
            if compiled.fits(outputs):
                return compiled.policy
        text = self._text_of(version)
        if text is None:
            return None
        compiled = _compile_as_recorded(text, version, self._declared, outputs)
        if sum(map(len, self._compiled.values())) >= KEPT_MAX:
            self._compiled.clear()
        self._compiled.setdefault(version, []).append(compiled)
        return compiled.policy


def verify(payment: Payment, decision: str, answer: bytes | str, version: str, policies: PastPolicies) -> list[Difference]:
    """What comes out otherwise if a stored payment is decided again, also between its columns and its answer; nothing if it is all the same."""
    try:
        recorded = read_answer(answer)
    except RecordUnreadable as error:
        return [Difference("record", str(error), "")]
    columns = [("decision", decision, recorded.decision), ("policy", version, recorded.policy_version)]
    differences = [Difference(f"{what} beside its answer", column, said) for what, column, said in columns if column != said]
    return differences + verify_recorded(payment, recorded, policies)


def verify_recorded(payment: Payment, recorded: Recorded, policies: PastPolicies) -> list[Difference]:
    """What comes out otherwise if the policy of a record decides it again."""
    try:
        policy = policies.of(recorded.policy_version, recorded.outputs)
    except ConfigurationRefused as refused:
        return [Difference("policy", recorded.policy_version, f"does not compile any more: {refused.faults[0]}")]
    if policy is None:
        return [Difference("policy", recorded.policy_version, "is not stored")]
    return decide_again(recorded, payment, policy)


def _compile_as_recorded(text: str, version: str, declared: Mapping[str, Mapping[str, Field]], outputs: Outputs) -> _Compiled:
    """A policy that was once active. Bounds and choices are left out: what they refuse now was right when it was activated.

    Raises `ConfigurationRefused`.
    """
    shown = {(tool, name): type(value) for tool, said in outputs.items() for name, value in said.items() if type(value) in KINDS}
    kinds = {(tool, name): field.kind for tool, fields in declared.items() for name, field in fields.items()} | shown
    origin = f"policy {version}"
    try:
        policy = compile_policy(text, origin=origin, tools=_fields(kinds), run_examples=False)
    except ConfigurationRefused:
        # A tool is gone, or says something else now, and gave no answer here: whatever kind lets the rules compile, their value is unknown.
        for name in sorted(set(_names_in(text)) - set(shown)):
            kinds[name] = min(KINDS, key=lambda kind, name=name: _faults(text, {**kinds, name: kind}))
        policy = compile_policy(text, origin=origin, tools=_fields(kinds), run_examples=False)
    read = sorted({name for rule in policy.rules for name in rule.names})
    return _Compiled(policy, tuple((tool, field, kinds[tool, field]) for tool, _, field in (name.partition(".") for name in read) if tool != PAYMENT))


def _names_in(text: str) -> Iterator[tuple[str, str]]:
    """Everything in the rules of a policy's text that looks like the field of a tool."""
    try:
        rules = tomllib.loads(text).get("rule", [])
    except tomllib.TOMLDecodeError:
        return  # the compiler says so
    for rule in rules:
        for tool, name in _NAME.findall(rule.get("when", "")):
            if tool != PAYMENT:
                yield tool, name


def _fields(kinds: Mapping[tuple[str, str], type]) -> dict[str, dict[str, Field]]:
    tools: dict[str, dict[str, Field]] = {}
    for (tool, name), kind in kinds.items():
        tools.setdefault(tool, {})[name] = Field(kind)
    return tools


def _faults(text: str, kinds: Mapping[tuple[str, str], type]) -> int:
    try:
        compile_policy(text, origin="policy", tools=_fields(kinds), run_examples=False)
    except ConfigurationRefused as refused:
        return len(refused.faults)
    return 0
