"""The policy file as it is written: its tables and keys, each with its line, and whether their shape is right. Knows no expression and no tool."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from paynow.policy.bands import scope_of
from paynow.policy.model import REASON_CODES_RESERVED, STRICTNESS, Thresholds
from paynow.policy.places import Places

TEXT_LENGTH_MAX = 1_000_000
RULES_MAX = 500
EXAMPLES_MAX = 500
WHEN_LENGTH_MAX = 4_000
MESSAGE_LENGTH_MAX = 300
SCORE_MAX = 1_000_000

RULE_ID = re.compile(r"[a-z][a-z0-9_]{0,63}")
TOP_KEYS = ("default", "thresholds", "rule", "example_defaults", "example")
RULE_KEYS = ("id", "when", "currency", "amount", "then", "score", "mode", "message", "customer_message")
CONDITIONS = ("when", "currency", "amount")
TEXTS = ("id", "when", "then", "mode", "message", "customer_message")
WORDS = {"then": ("review", "block"), "mode": ("enforce", "shadow")}
"""Keys of a rule that are one of two words."""
THRESHOLDS = ("review", "block")

Fault: TypeAlias = tuple[Sequence[str], str]
"""What is wrong, after the path of the key that it is wrong with."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, by its line in the file (from 1) and the rule, example or key that it belongs to."""

    line: int
    key: str
    message: str


@dataclass(frozen=True, slots=True)
class Written:
    """A table as written. `label` speaks of it; `line_of` is the line of one of its keys, by its path."""

    label: str
    values: Mapping[str, Any]
    line_of: Callable[..., int]

    def finding(self, path: Sequence[str], message: str) -> Finding:
        return Finding(self.line_of(*path), self.label, message)


@dataclass(frozen=True, slots=True)
class WrittenRule(Written):
    """One `[[rule]]`. `scope` is what `currency` and `amount` come to, as a condition; `when` is the condition as it is written, and
    `when_lines` are the lines of the file on which its lines stand. `usable`: it can be compiled."""

    scope: str
    when: str
    when_lines: tuple[int, ...]
    usable: bool


@dataclass(slots=True)
class Source:
    """A policy file, read: what it says, and what is wrong with its shape."""

    default: str = "allow"
    thresholds: Thresholds | None = None
    rules: list[WrittenRule] = field(default_factory=list)
    example_defaults: Written | None = None
    examples: list[Written] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read_source(text: str) -> Source:
    """The rules and examples of a policy's text (line ends are `\\n`). Everything that is wrong with their shape stands in `findings`."""
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
    _read_document(document, Places(text), source)
    return source


def meant(word: str, known: Sequence[str]) -> str:
    """The end of a complaint about an unknown key: which was meant, or which there are."""
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean `{near[0]}`?" if near else f"; known are {', '.join(f'`{key}`' for key in known)}"


def _not_toml(complaint: str, text: str) -> Finding:
    """The parser's own words, and the line that it puts at their end."""
    words, _, place = complaint.rpartition(" (at ")
    line = re.match(r"line (\d+), column (\d+)", place)
    if line:
        return Finding(int(line[1]), "", f"not valid TOML: {words} (column {line[2]})")
    return Finding(text.rstrip("\n").count("\n") + 1, "", f"not valid TOML: {words or complaint} (at the end of the file)")


def _read_document(document: Mapping[str, Any], places: Places, source: Source) -> None:
    for key in document:
        if key not in TOP_KEYS:
            source.findings.append(Finding(places.line(key), key, f"unknown key{meant(key, TOP_KEYS)}"))
    default = document.get("default", "allow")
    if isinstance(default, str) and default in STRICTNESS:
        source.default = default
    else:
        source.findings.append(Finding(places.line("default"), "default", 'must be "allow", "review" or "block"'))
    seen: dict[str, int] = {}
    for index, values in enumerate(_tables(document, "rule", RULES_MAX, places, source)):
        source.rules.append(_read_rule(index, values, seen, places, source))
    _read_thresholds(document.get("thresholds"), places, source)
    for index, values in enumerate(_tables(document, "example", EXAMPLES_MAX, places, source)):
        source.examples.append(Written(_label("example", values.get("name"), index), values, partial(places.line_in, "example", index)))
    defaults = document.get("example_defaults")
    if isinstance(defaults, dict):
        source.example_defaults = Written("example_defaults", defaults, partial(places.line, "example_defaults"))
    elif defaults is not None:
        source.findings.append(Finding(places.line("example_defaults"), "example_defaults", "must be a table: [example_defaults]"))


def _tables(document: Mapping[str, Any], name: str, most: int, places: Places, source: Source) -> Sequence[Mapping[str, Any]]:
    """The tables of an array, as many as are taken."""
    tables = document.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        source.findings.append(Finding(places.line(name), name, f"each {name} is a table of its own: write [[{name}]], with two brackets"))
        return ()
    if len(tables) > most:
        source.findings.append(Finding(places.line_in(name, most), name, f"there are {len(tables)} {name}s, at most {most} are taken"))
    return tables[:most]


def _label(kind: str, name: Any, index: int) -> str:
    return f"{kind} {name}" if isinstance(name, str) and name.strip() and name.isprintable() else f"{kind} number {index + 1}"


def _read_thresholds(values: Any, places: Places, source: Source) -> None:
    """The thresholds, and whether they and the scores belong together."""
    scored = [rule for rule in source.rules if "score" in rule.values]
    if values is None:
        if scored:
            message = "has a score, but there are no [thresholds] that say what scores come to: write review = …, block = … or both"
            source.findings.append(scored[0].finding(("score",), message))
        return
    written = Written("thresholds", values if isinstance(values, dict) else {}, partial(places.line, "thresholds"))
    faults = list(_threshold_faults(values, scored))
    source.findings += [written.finding(path, message) for path, message in faults]
    if not faults:
        source.thresholds = Thresholds(values.get("review"), values.get("block"))


def _threshold_faults(values: Any, scored: Sequence[WrittenRule]) -> Iterator[Fault]:
    if not isinstance(values, dict) or not values:
        yield (), "must be a table with `review`, `block` or both: the least score that calls for it"
        return
    for key, value in values.items():
        if key not in THRESHOLDS:
            yield (key,), f"unknown key `{key}`{meant(key, THRESHOLDS)}"
        elif not is_whole(value) or not 1 <= value <= SCORE_MAX:
            yield (key,), f"`{key}` must be a whole number from 1 to {SCORE_MAX}"
    review, block = values.get("review"), values.get("block")
    if is_whole(review) and is_whole(block) and review >= block:
        yield ("block",), f"`block` must be greater than `review`, which is {review}"
    scores = [rule.values["score"] for rule in scored]
    if all(map(is_whole, scores)):
        most = sum(score for score in scores if score > 0)
        for key, value in values.items():
            if key in THRESHOLDS and is_whole(value) and most < value <= SCORE_MAX:
                yield (key,), f"`{key}` is never reached: all scores together are {most}"


def is_whole(value: Any) -> bool:
    """Whether it is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _read_rule(index: int, values: Mapping[str, Any], seen: dict[str, int], places: Places, source: Source) -> WrittenRule:
    identity = values.get("id")
    fit = isinstance(identity, str) and RULE_ID.fullmatch(identity)
    line_of = partial(places.line_in, "rule", index)
    scope, scope_faults = scope_of(values)
    when = values.get("when", "")
    usable = not scope_faults and ("when" not in values or _fault_of("when", when) is None) and bool(scope or when)
    written = WrittenRule(
        label=f"rule {identity}" if fit else f"rule number {index + 1}",
        values=values,
        line_of=line_of,
        scope=scope,
        when=when if isinstance(when, str) else "",
        when_lines=places.text_lines("rule", index, "when"),
        usable=usable,
    )
    faults: list[Fault] = [*_key_faults(values), *scope_faults]
    if isinstance(identity, str) and identity in seen:
        faults.append((("id",), f"the id is taken already, by the rule on line {seen[identity]}"))
    elif isinstance(identity, str):
        seen[identity] = line_of("id")
    source.findings += [written.finding(path, message) for path, message in faults]
    return written


def _key_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    for key in values:
        if key not in RULE_KEYS:
            yield (key,), f"unknown key `{key}`{meant(key, RULE_KEYS)}"
    for key in ("id", "message"):
        if key not in values:
            yield (), f"has no `{key}`"
    if not any(key in values for key in CONDITIONS):
        yield (), "has no condition: `when`, `currency` or `amount`"
    if "then" not in values and "score" not in values:
        yield (), "has neither `then` nor `score`"
    if "then" in values and "score" in values:
        yield ("score",), "a rule has either `then` or `score`"
    for key in (*TEXTS, "score"):
        fault = _fault_of(key, values[key]) if key in values else None
        if fault:
            yield (key,), fault
    if values.get("id") == "insufficient_funds" and ("score" in values or values.get("then") == "review"):
        yield ("score" if "score" in values else "then",), 'insufficient_funds stands for money that is not there, so `then` must be "block"'


def _fault_of(key: str, value: Any) -> str | None:
    """What is wrong with the value of one key of a rule."""
    if key == "score":
        fit = is_whole(value) and value != 0 and abs(value) <= SCORE_MAX
        return None if fit else f"`score` must be a whole number from 1 to {SCORE_MAX}, or as much below zero"
    if not isinstance(value, str):
        return f"`{key}` must be a text in quotes"
    if key == "id":
        return _fault_of_id(value)
    if key in WORDS:
        return None if value in WORDS[key] else f'`{key}` must be "{WORDS[key][0]}" or "{WORDS[key][1]}"'
    return fault_of_text(key, value, WHEN_LENGTH_MAX if key == "when" else MESSAGE_LENGTH_MAX)


def _fault_of_id(value: str) -> str | None:
    if not RULE_ID.fullmatch(value):
        return "`id` must be a small letter and then at most 63 small letters, digits and _"
    return f"`{value}` is a reason code of PayNow's own; choose another id" if value in REASON_CODES_RESERVED else None


def fault_of_text(key: str, value: str, length_max: int) -> str | None:
    """What is wrong with a text; all but a condition are one line."""
    if not value.strip():
        return f"`{key}` must not be empty"
    if len(value) > length_max:
        return f"`{key}` has {len(value)} characters, at most {length_max} are taken"
    return None if key == "when" or value.isprintable() else f"`{key}` must be one line of printable characters"
