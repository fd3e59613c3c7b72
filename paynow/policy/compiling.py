"""From the text of a policy to the policy: reads it, compiles its rules, checks each, and refuses with all faults at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paynow.errors import ConfigurationFault, ConfigurationRefused
from paynow.plugin_api import Field
from paynow.policy.checks import names_read, slips_of
from paynow.policy.examples import broken, read_examples
from paynow.policy.language import Expression, Language, NotCompiled
from paynow.policy.literals import Settled, Slip, settle_literals
from paynow.policy.model import Group, Policy, Reason, Rule
from paynow.policy.source import Finding, WrittenRule, read_source
from paynow.policy.vocabulary import Vocabulary, tool_of
from paynow.policy.wording import TOO_DEEP, place_of, pointed, spoken

VERSION_LENGTH = 32
GROUP_SIZE = 8
"""Rules that are asked at once. If one of them cannot be told, each is asked alone: of 50 rules, larger groups cost more then."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """One rule's condition: compiled (and the text that was compiled), or what is wrong with it."""

    written: WrittenRule
    when: str
    code: str
    expression: Expression | None
    names: frozenset[str]
    findings: tuple[Finding, ...]


def compile_policy(text: str, *, origin: str, tools: Mapping[str, Mapping[str, Field]], run_examples: bool = True) -> Policy:
    """The policy that a TOML text describes, over the fields that each tool declares. The empty text is one: it allows what no tool forbids.

    `origin` names the text in the faults (`config/policy.toml`). Without `run_examples` they are not looked at: for policies of former times,
    which judge what was recorded then. Raises `ConfigurationRefused` with every fault, each with its line.
    """
    text = text.replace("\r\n", "\n")
    vocabulary = Vocabulary.of(tools)
    language = Language(vocabulary.kinds())
    source = read_source(text)
    checked = [_checked(written, language, vocabulary) for written in source.rules if written.usable]
    examples, example_findings = read_examples(source.example_defaults, source.examples, tools) if run_examples else ([], [])
    _refuse([*source.findings, *(finding for one in checked for finding in one.findings), *example_findings], origin)
    rules = tuple(_rule(one, language) for one in checked)
    policy = Policy(
        version=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:VERSION_LENGTH],
        text=text,
        default=source.default,
        thresholds=source.thresholds,
        rules=rules,
        examples=len(examples),
        tools_read=frozenset().union(*(rule.tools for rule in rules if rule.enforced)),
        groups=tuple(
            Group(rules[start : start + GROUP_SIZE], _which(checked[start : start + GROUP_SIZE], language))
            for start in range(0, len(rules), GROUP_SIZE)
        ),
        language=language,
    )
    _refuse([finding for example in examples for finding in broken(example, policy)], origin)
    return policy


def _refuse(findings: Sequence[Finding], origin: str) -> None:
    if findings:
        in_order = sorted(findings, key=lambda finding: finding.line)
        raise ConfigurationRefused([ConfigurationFault(f"{origin}:{finding.line}", finding.key, finding.message) for finding in in_order])


def _checked(written: WrittenRule, language: Language, vocabulary: Vocabulary) -> _Checked:
    """A rule's condition. What `currency` and `amount` come to stands before it; by itself it must be one, so that no bracket in it ends ours."""
    when, within = written.when, 0
    settled, expression, findings = _compiled(written, language, vocabulary) if when else (settle_literals(""), None, [])
    if written.scope and not findings:
        when, within = _whole(written)
        settled = settle_literals(when)
        try:
            expression = language.compile(settled.text)
        except NotCompiled:  # both parts are conditions, so it can only be the depth
            findings = [Finding(written.when_lines[0], written.label, TOO_DEEP)]
    if expression is None or findings:
        return _Checked(written, when, settled.text, None, frozenset(), tuple(findings))
    tree = expression.tree()
    findings = [_at(written, slip, within) for slip in slips_of(tree, settled, vocabulary)]
    return _Checked(written, when, settled.text, expression, names_read(tree, vocabulary), tuple(findings))


def _whole(written: WrittenRule) -> tuple[str, int]:
    """The whole condition, and the position in it at which `when` begins."""
    if not written.when:
        return written.scope, len(written.scope)
    before = f"({written.scope}) && ("
    return f"{before}{written.when}\n)", len(before)


def _compiled(written: WrittenRule, language: Language, vocabulary: Vocabulary) -> tuple[Settled, Expression | None, list[Finding]]:
    """`when` by itself, and what is wrong with it at once."""
    settled = settle_literals(written.when)
    findings = [_at(written, slip) for slip in settled.slips]
    try:
        expression = language.compile(settled.text.rstrip())
    except NotCompiled as refused:
        return settled, None, findings + _complaints(written, refused, vocabulary)
    if not expression.boolean:
        findings.append(Finding(written.when_lines[0], written.label, f"`when` must be true or false, not {expression.kind}"))
    return settled, expression, findings


def _complaints(written: WrittenRule, refused: NotCompiled, vocabulary: Vocabulary) -> list[Finding]:
    """Each complaint once; of errors in syntax the first only, the others follow from it."""
    findings: dict[tuple[int, str], Finding] = {}
    for complaint in refused.complaints:
        message, column = spoken(complaint, written.when, vocabulary)
        line = _file_line(written, complaint.line)
        findings.setdefault((line, message), Finding(line, written.label, pointed(message, written.when, complaint.line, column)))
        if complaint.words.startswith("Syntax error"):
            break
    return list(findings.values())


def _at(written: WrittenRule, slip: Slip, within: int = 0) -> Finding:
    """A slip at its place in `when`, which begins at the position `within` of the text that was compiled; before it stand `currency` and `amount`."""
    if slip.at < within:
        return written.finding(("amount" if "amount" in written.values else "currency",), slip.message)
    line, column = place_of(written.when, slip.at - within)
    return Finding(_file_line(written, line), written.label, pointed(slip.message, written.when, line, column))


def _file_line(written: WrittenRule, line: int) -> int:
    """The line of the file on which a line of `when` stands; a line end written as `\n` begins no line of the file."""
    return written.when_lines[min(max(line, 1), len(written.when_lines)) - 1]


def _rule(checked: _Checked, language: Language) -> Rule:
    assert checked.expression is not None
    values = checked.written.values
    tools = frozenset(tool for name in checked.names if (tool := tool_of(name)) is not None)
    of_tools_alone = bool(tools) and all(tool_of(name) for name in checked.names)
    return Rule(
        id=values["id"],
        when=checked.when,
        then=values.get("then"),
        score=values.get("score"),
        enforced=values.get("mode", "enforce") == "enforce",
        reason=Reason(values["id"], values["message"], values.get("customer_message")),
        names=checked.names,
        tools=tools,
        needs_tools=of_tools_alone and checked.expression.truth(language.facts({})) is None,
        expression=checked.expression,
    )


def _which(checked: Sequence[_Checked], language: Language) -> Expression | None:
    """One expression for all of them: a bit for each that is true. Without a value for one it has none, so an error never passes for false."""
    try:
        return language.compile(" + ".join(f"(({one.code}\n) ? {1 << at} : 0)" for at, one in enumerate(checked)))
    except NotCompiled:  # one of them is as deep as the language goes
        return None
