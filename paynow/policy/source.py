"""The policy file as it is written: which table and key stands on which line, and whether its shape is right. Knows no expression.

The standard library's parser tells no lines. It finds the statements all the same: lines are gathered until they parse.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from paynow.policy.model import REASON_CODES_RESERVED, STRICTNESS

TEXT_LENGTH_MAX = 1_000_000
RULES_MAX = 500
WHEN_LENGTH_MAX = 4_000
MESSAGE_LENGTH_MAX = 300
STATEMENT_LINES_MAX = 200
"""A statement over more lines is not followed; what it holds is reported on its first line."""

RULE_ID = re.compile(r"[a-z][a-z0-9_]{0,63}")
RULE_KEYS = ("id", "when", "then", "message")
THEN = ("review", "block")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, by its line in the file (from 1) and the rule or key that it belongs to."""

    line: int
    key: str
    message: str


@dataclass(frozen=True, slots=True)
class WrittenRule:
    """One `[[rule]]` as written. `label` speaks of it; `when` is None if it is unfit to be compiled; `when_lines` are the lines of the
    file on which the lines of `when` stand."""

    label: str
    values: Mapping[str, Any]
    when: str | None
    when_lines: tuple[int, ...]


@dataclass(slots=True)
class Source:
    """A policy file, read: what it says, and what is wrong with its shape."""

    default: str = "allow"
    rules: list[WrittenRule] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read_source(text: str) -> Source:
    """The rules of a policy's text (line ends are `\\n`). Everything that is wrong with their shape stands in `findings`."""
    source = Source()
    if len(text) > TEXT_LENGTH_MAX:
        source.findings.append(Finding(1, "", f"the policy has {len(text)} characters, at most {TEXT_LENGTH_MAX} are taken"))
        return source
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        source.findings.append(_not_toml(str(error), text))
        return source
    except RecursionError:
        source.findings.append(Finding(1, "", "not valid TOML: values are nested too deeply"))
        return source
    _read_document(document, _Lines(text), source)
    return source


def _not_toml(complaint: str, text: str) -> Finding:
    """The parser's own words, and the line that it puts at their end."""
    words, _, place = complaint.rpartition(" (at ")
    line = re.match(r"line (\d+), column (\d+)", place)
    if line:
        return Finding(int(line[1]), "", f"not valid TOML: {words} (column {line[2]})")
    return Finding(text.rstrip("\n").count("\n") + 1, "", f"not valid TOML: {words or complaint} (at the end of the file)")


@dataclass(frozen=True, slots=True)
class _Statement:
    line: int
    text: str
    parsed: dict[str, Any]


class _Lines:
    """Where things stand: top-level keys, and the keys of each `[[rule]]` in turn."""

    def __init__(self, text: str) -> None:
        self.top: dict[str, int] = {}
        self.rules: list[dict[str, _Statement]] = []
        rule: dict[str, _Statement] | None = None
        at_top = True
        for statement in _statements(text):
            names = list(statement.parsed)
            if statement.text.lstrip().startswith("["):
                at_top = False
                rule = None
                self.top.setdefault(names[0], statement.line)
                if statement.parsed == {"rule": [{}]}:
                    rule = {"": statement}
                    self.rules.append(rule)
            elif rule is not None:
                rule.update(dict.fromkeys(names, statement))
            elif at_top:
                self.top.update(dict.fromkeys(names, statement.line))

    def of_rule(self, index: int, key: str = "") -> int:
        """The line of a rule's key, or else of its header, or else of whatever holds all rules."""
        statements = self.rules[index] if index < len(self.rules) else {}
        found = statements.get(key) or statements.get("")
        return found.line if found else self.top.get("rule", 1)

    def of_when(self, index: int) -> tuple[int, ...]:
        """The line of the file for each line of a rule's `when`."""
        statement = self.rules[index].get("when") if index < len(self.rules) else None
        return _content_lines(statement) if statement else (self.of_rule(index),)


def _statements(text: str) -> Iterator[_Statement]:
    gathered: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        gathered.append(line)
        if len(gathered) > STATEMENT_LINES_MAX:
            return
        statement = "\n".join(gathered)
        try:
            parsed = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if parsed:
            yield _Statement(number - len(gathered) + 1, statement, parsed)
        gathered = []


def _content_lines(statement: _Statement) -> tuple[int, ...]:
    """The lines on which a text's own lines begin: a text in three quotes may start on the next line, and `\\` at a line's end joins two."""
    value = statement.text.partition("=")[2].lstrip()
    if not value.startswith(('"""', "'''")):
        return (statement.line,)
    rows = value[3:].split("\n")
    numbers: list[int] = []
    joined = False
    for offset, row in enumerate(rows):
        if (offset == 0 and not row and len(rows) > 1) or (joined and not row.strip()):
            continue
        if not joined:
            numbers.append(statement.line + offset)
        bare = row.rstrip(" \t")
        joined = value[0] == '"' and (len(bare) - len(bare.rstrip("\\"))) % 2 == 1
    return tuple(numbers)


def _read_document(document: Mapping[str, Any], lines: _Lines, source: Source) -> None:
    for key in document:
        if key not in ("default", "rule"):
            source.findings.append(Finding(lines.top.get(key, 1), key, f"unknown key{_meant(key, ('default', 'rule'))}"))
    default = document.get("default", "allow")
    if isinstance(default, str) and default in STRICTNESS:
        source.default = default
    else:
        source.findings.append(Finding(lines.top.get("default", 1), "default", 'must be "allow", "review" or "block"'))
    rules = document.get("rule", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        source.findings.append(Finding(lines.top.get("rule", 1), "rule", "each rule is a table of its own: write [[rule]], with two brackets"))
        return
    if len(rules) > RULES_MAX:
        source.findings.append(Finding(lines.of_rule(RULES_MAX), "rule", f"there are {len(rules)} rules, at most {RULES_MAX} are taken"))
    seen: dict[str, int] = {}
    for index, values in enumerate(rules[:RULES_MAX]):
        _read_rule(index, values, seen, lines, source)


def _read_rule(index: int, values: Mapping[str, Any], seen: dict[str, int], lines: _Lines, source: Source) -> None:
    identity = values.get("id")
    label = f"rule {identity}" if isinstance(identity, str) and RULE_ID.fullmatch(identity) else f"rule number {index + 1}"
    faults = [(key, f"unknown key `{key}`{_meant(key, RULE_KEYS)}") for key in values if key not in RULE_KEYS]
    faults += [("", f"has no `{key}`") for key in RULE_KEYS if key not in values]
    faults += [(key, fault) for key in RULE_KEYS if key in values for fault in [_fault_of(key, values[key])] if fault]
    if identity == "insufficient_funds" and values.get("then") == "review":
        faults.append(("then", 'insufficient_funds stands for money that is not there, so it must be "block"'))
    if isinstance(identity, str) and identity in seen:
        faults.append(("id", f"the id is taken already, by the rule on line {seen[identity]}"))
    elif isinstance(identity, str):
        seen[identity] = lines.of_rule(index, "id")
    source.findings += [Finding(lines.of_rule(index, key), label, fault) for key, fault in faults]
    when = values.get("when")
    usable = isinstance(when, str) and _fault_of("when", when) is None
    source.rules.append(WrittenRule(label, values, when if usable else None, lines.of_when(index)))


def _fault_of(key: str, value: Any) -> str | None:
    """What is wrong with the value of one key of a rule."""
    if not isinstance(value, str):
        return f"`{key}` must be a text in quotes"
    if key == "id":
        return _fault_of_id(value)
    if key == "then":
        return None if value in THEN else '`then` must be "review" or "block"'
    return _fault_of_text(key, value, WHEN_LENGTH_MAX if key == "when" else MESSAGE_LENGTH_MAX)


def _fault_of_id(value: str) -> str | None:
    if not RULE_ID.fullmatch(value):
        return "`id` must be a small letter and then at most 63 small letters, digits and _"
    return f"`{value}` is a reason code of PayNow's own; choose another id" if value in REASON_CODES_RESERVED else None


def _fault_of_text(key: str, value: str, length_max: int) -> str | None:
    if not value.strip():
        return f"`{key}` must not be empty"
    if len(value) > length_max:
        return f"`{key}` has {len(value)} characters, at most {length_max} are taken"
    return "`message` must be one line of printable characters" if key == "message" and not value.isprintable() else None


def _meant(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean `{near[0]}`?" if near else f"; known are {', '.join(f'`{key}`' for key in known)}"
