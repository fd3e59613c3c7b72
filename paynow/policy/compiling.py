"""From the text of a policy to the policy: reads it, compiles its rules, checks each, and refuses with all faults at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paynow.errors import ConfigurationFault, ConfigurationRefused
from paynow.plugin_api import Field
from paynow.policy.checks import names_read, slips_of
from paynow.policy.language import Expression, Language, NotCompiled
from paynow.policy.literals import Slip, settle_literals
from paynow.policy.model import Group, Policy, Rule
from paynow.policy.source import Finding, WrittenRule, read_source
from paynow.policy.vocabulary import Vocabulary, tool_of
from paynow.policy.wording import place_of, pointed, spoken

VERSION_LENGTH = 32
GROUP_SIZE = 8
"""Rules that are asked at once. Of 50 rules, larger groups cost more when one rule fires, smaller ones when none does."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """One `when`: compiled (and the text that was compiled), or what is wrong with it."""

    written: WrittenRule
    code: str
    expression: Expression | None
    names: frozenset[str]
    findings: tuple[Finding, ...]


def compile_policy(text: str, *, origin: str, tools: Mapping[str, Mapping[str, Field]]) -> Policy:
    """The policy that a TOML text describes, over the fields that each tool declares. The empty text is one: it allows what no tool forbids.

    `origin` names the text in the faults (`config/policy.toml`). Raises `ConfigurationRefused` with every fault, each with its line.
    """
    text = text.replace("\r\n", "\n")
    vocabulary = Vocabulary.of(tools)
    language = Language(vocabulary.kinds())
    source = read_source(text)
    checked = [_checked(written, written.when, language, vocabulary) for written in source.rules if written.when is not None]
    findings = sorted([*source.findings, *(finding for one in checked for finding in one.findings)], key=lambda finding: finding.line)
    if findings:
        raise ConfigurationRefused([ConfigurationFault(f"{origin}:{finding.line}", finding.key, finding.message) for finding in findings])
    rules = tuple(_rule(one) for one in checked)
    return Policy(
        version=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:VERSION_LENGTH],
        text=text,
        default=source.default,
        rules=rules,
        tools_read=frozenset().union(*(rule.tools for rule in rules)),
        groups=tuple(
            Group(rules[start : start + GROUP_SIZE], _any_of(checked[start : start + GROUP_SIZE], language))
            for start in range(0, len(rules), GROUP_SIZE)
        ),
        language=language,
    )


def _checked(written: WrittenRule, when: str, language: Language, vocabulary: Vocabulary) -> _Checked:
    settled = settle_literals(when)
    findings = [_at(written, when, slip) for slip in settled.slips]
    try:
        expression = language.compile(settled.text.rstrip())
    except NotCompiled as refused:
        findings += _complaints(written, when, refused, vocabulary)
        return _Checked(written, settled.text, None, frozenset(), tuple(findings))
    tree = expression.tree()
    if not expression.boolean:
        findings.append(Finding(written.when_lines[0], written.label, f"`when` must be true or false, not {expression.kind}"))
    elif not findings:
        findings = [_at(written, when, slip) for slip in slips_of(tree, settled, vocabulary)]
    return _Checked(written, settled.text, expression, names_read(tree, vocabulary), tuple(findings))


def _complaints(written: WrittenRule, when: str, refused: NotCompiled, vocabulary: Vocabulary) -> list[Finding]:
    """Each complaint once; of errors in syntax the first only, the others follow from it."""
    findings: dict[tuple[int, str], Finding] = {}
    for complaint in refused.complaints:
        message, column = spoken(complaint, when, vocabulary)
        line = _file_line(written, complaint.line)
        findings.setdefault((line, message), Finding(line, written.label, pointed(message, when, complaint.line, column)))
        if complaint.words.startswith("Syntax error"):
            break
    return list(findings.values())


def _at(written: WrittenRule, when: str, slip: Slip) -> Finding:
    line, column = place_of(when, slip.at)
    return Finding(_file_line(written, line), written.label, pointed(slip.message, when, line, column))


def _file_line(written: WrittenRule, line: int) -> int:
    """The line of the file on which a line of `when` stands; a line end written as `\\n` begins no line of the file."""
    return written.when_lines[min(max(line, 1), len(written.when_lines)) - 1]


def _rule(checked: _Checked) -> Rule:
    assert checked.expression is not None
    values = checked.written.values
    return Rule(
        id=values["id"],
        when=values["when"],
        then=values["then"],
        message=values["message"],
        names=checked.names,
        tools=frozenset(tool for name in checked.names if (tool := tool_of(name)) is not None),
        expression=checked.expression,
    )


def _any_of(checked: Sequence[_Checked], language: Language) -> Expression | None:
    """One expression that is false if and only if all are: an error of one does not hide the truth of another, nor pass for false."""
    try:
        return language.compile(" || ".join(f"({one.code}\n)" for one in checked))
    except NotCompiled:  # one of them is as deep as the language goes
        return None
