"""The compiler's complaints in the words of someone who writes rules, with the line and a caret under the place."""

from __future__ import annotations

import re

from paynow.policy.language import Complaint
from paynow.policy.model import PAYMENT
from paynow.policy.vocabulary import KIND_WORDS, Vocabulary

SHOWN_BEFORE_MAX = 80
SHOWN_AFTER_MAX = 40
TOO_DEEP = "the expression is nested too deeply; split it into several rules"

_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_NO_OVERLOAD = re.compile(r"found no matching overload for '([^']*)' applied to '\((.*)\)'")
_TYPE_WORDS = {"int": KIND_WORDS[int], "double": KIND_WORDS[float], "bool": KIND_WORDS[bool], "string": KIND_WORDS[str]}
_MEANT = {"and": "&&", "or": "||", "not": "!", "AND": "&&", "OR": "||", "NOT": "!", "=": "==", "True": "true", "False": "false"}


def pointed(message: str, text: str, line: int, column: int) -> str:
    """The message, and under it the line of the rule with a caret below the column (both from 1; line 0: no place is known)."""
    rows = text.split("\n")
    if not 1 <= line <= len(rows):
        return message
    row = rows[line - 1].replace("\t", " ")
    at = min(max(column - 1, 0), len(row))
    start = max(at - SHOWN_BEFORE_MAX, 0)
    before, after = "…" if start else "", "…" if len(row) > at + SHOWN_AFTER_MAX else ""
    return f"{message}\n    {before}{row[start : at + SHOWN_AFTER_MAX]}{after}\n    {' ' * (len(before) + at - start)}^"


def place_of(text: str, at: int) -> tuple[int, int]:
    """The line and column (from 1) of a position in a text."""
    above = text[:at]
    return above.count("\n") + 1, at - (above.rfind("\n") + 1) + 1


def spoken(complaint: Complaint, text: str, vocabulary: Vocabulary) -> tuple[str, int]:
    """A complaint in plain words, and the column to point at."""
    undeclared = _UNDECLARED.match(complaint.words)
    if undeclared:
        return _undeclared(undeclared[1], complaint, text, vocabulary)
    mismatch = _NO_OVERLOAD.match(complaint.words)
    if mismatch:
        return _mismatch(mismatch[1], mismatch[2]), complaint.column
    if "recursion" in complaint.words:
        return TOO_DEEP, complaint.column
    if complaint.words.startswith("Syntax error"):
        return _syntax(complaint), complaint.column
    return complaint.words, complaint.column


def _undeclared(name: str, complaint: Complaint, text: str, vocabulary: Vocabulary) -> tuple[str, int]:
    sign = text.split("\n")[complaint.line - 1][complaint.column - 1 : complaint.column]
    if sign == "(":
        return _unknown_function(name), complaint.column
    # Of a dotted name the compiler points at the last dot; its beginning is easier to read.
    return _unknown_name(name, vocabulary), complaint.column - len(name.rpartition(".")[0]) if sign == "." else complaint.column


def _unknown_function(name: str) -> str:
    if name == "minor":
        return 'minor() takes two texts in quotes, an amount and its currency: minor("250.00", "USD")'
    return f"there is no function `{name}`, or it takes something else"


def _unknown_name(name: str, vocabulary: Vocabulary) -> str:
    if name in _MEANT:
        return f"`{name}` is written `{_MEANT[name]}` here"
    if any(name in field.choices for field in vocabulary.fields.values()):
        return f'unknown name `{name}`; a word is written in quotes: "{name}"'
    own = [known for known in vocabulary.fields if known.startswith(f"{name}.")]
    if own:
        return f"`{name}` is no value itself; its values are {', '.join(f'`{known}`' for known in own)}"
    near = vocabulary.nearest(name)
    if near:
        return f"unknown name `{name}`; did you mean `{near}`?"
    tools = sorted({known.partition(".")[0] for known in vocabulary.fields} - {PAYMENT})
    return f"unknown name `{name}`; names begin with `{PAYMENT}.`" + "".join(f" or `{tool}.`" for tool in tools)


def _mismatch(function: str, types: str) -> str:
    kinds = [_TYPE_WORDS.get(kind, kind) for kind in re.split(r", (?![^(]*\))", types)] if types else []
    named = _operator(function)
    hint = (
        "; write 5.0 beside a real number and 5 beside a whole one, or double(…) around the whole one"
        if {"int", "double"} <= set(types.split(", "))
        else ""
    )
    return f"{named} does not go with {' and '.join(kinds)}{hint}" if kinds else f"{named} needs something to work on"


def _operator(function: str) -> str:
    if function == "_?_:_":
        return "`? :`"
    sign = function.replace("@", "").replace("_", "")
    return f"`{sign}`" if "_" in function or function.startswith("@") else f"{function}()"


def _syntax(complaint: Complaint) -> str:
    words = complaint.words.removeprefix("Syntax error: ").partition(" expecting")[0]
    if "<EOF>" in words:
        return "the expression ends too early"
    offending = re.search(r"'([^']*)'?", words)
    meant = _MEANT.get(offending[1].strip().split(" ")[0]) if offending and offending[1].strip() else None
    return f"not an expression: {words}" + (f"; did you mean `{meant}`?" if meant else "")
