"""What a rule that compiles must still not be: impossible, a typing error in a word, an amount in no particular currency, without a bound."""

from __future__ import annotations

from collections.abc import Iterator

from paynow.policy.language import pattern_fault
from paynow.policy.literals import Settled, Slip
from paynow.policy.model import PAYMENT
from paynow.policy.ranges import declared
from paynow.policy.reachability import first_impossible
from paynow.policy.tree import Call, Const, Items, Loop, Name, Node, children, walk
from paynow.policy.vocabulary import Vocabulary, choices_spoken

CURRENCY = f"{PAYMENT}.currency"


def slips_of(tree: Node, settled: Settled, vocabulary: Vocabulary) -> list[Slip]:
    """Everything that is wrong with a rule that compiles."""
    slips = list(_unbounded(tree))
    slips = slips or [*_wrong_patterns(tree), *_foreign_words(tree, vocabulary), *_currencies_not_asked(tree, settled)]
    return slips or list(_impossible(tree, vocabulary))


def names_read(tree: Node, vocabulary: Vocabulary) -> frozenset[str]:
    """The declared names that a rule reads."""
    return frozenset(node.name for node in walk(tree) if isinstance(node, Name) and node.name in vocabulary.fields)


def _impossible(tree: Node, vocabulary: Vocabulary) -> Iterator[Slip]:
    state = {name: declared(vocabulary.fields[name]) for name in names_read(tree, vocabulary)}
    culprit = first_impossible(tree, state)
    if culprit is None:
        return
    alone = first_impossible(culprit, state) is not None
    what = "this is never true" if alone else "this contradicts what stands before it"
    meanings = [f"{name} is {vocabulary.meaning(name)}" for name in sorted(names_read(culprit, vocabulary))]
    yield Slip(culprit.at, "; ".join([f"the rule can never match: {what}", *meanings]))


def _unbounded(tree: Node) -> Iterator[Slip]:
    """Lists are written out, so one loop is short; a loop in a loop multiplies, and a pattern in a loop is compiled every time."""
    for loop in walk(tree):
        if isinstance(loop, Loop):
            for node in (node for part in loop.parts for node in walk(part)):
                if isinstance(node, Loop):
                    yield Slip(node.at, "a loop (exists, all, map, …) cannot stand inside another one")
                elif isinstance(node, Call) and node.function == "matches":
                    yield Slip(node.at, "matches() cannot stand inside a loop (exists, all, map, …); write one pattern with | instead")


def _wrong_patterns(tree: Node) -> Iterator[Slip]:
    for node in walk(tree):
        if isinstance(node, Call) and node.function == "matches":
            pattern = node.arguments[-1]
            if not isinstance(pattern, Const):
                yield Slip(node.at, "the pattern of matches() must be written out as a text in quotes")
            elif fault := pattern_fault(str(pattern.value)):
                yield Slip(pattern.at, f"{fault} (patterns are written in RE2 syntax)")


def _foreign_words(tree: Node, vocabulary: Vocabulary) -> Iterator[Slip]:
    """Words with which a field is compared although it never says them: also beside conditions that may match, they are errors in typing."""
    for name, word in _comparisons(tree):
        field = vocabulary.fields.get(name)
        if field is not None and field.choices and word.value not in field.choices:
            yield Slip(word.at, f'{name} is never "{word.value}"; it is {choices_spoken(name, field)}')


def _currencies_not_asked(tree: Node, settled: Settled) -> Iterator[Slip]:
    asked = {word.value for name, word in _comparisons(tree) if name == CURRENCY}
    for currency, at in settled.currencies:
        if currency not in asked:
            yield Slip(at, f'this amount is in {currency}, so the rule must say for which payments it is: {CURRENCY} == "{currency}" && …')


def _comparisons(tree: Node) -> Iterator[tuple[str, Const]]:
    """Every name that is compared with a text, by `==`, `!=` or `in`, with that text."""
    for node in walk(tree):
        if isinstance(node, Call) and node.function in ("_==_", "_!=_", "@in"):
            names = [part.name for part in node.arguments if isinstance(part, Name)]
            parts = [one for part in node.arguments for one in (children(part) if isinstance(part, Items) else (part,))]
            yield from ((name, part) for name in names for part in parts if isinstance(part, Const) and isinstance(part.value, str))
