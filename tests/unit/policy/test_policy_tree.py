"""The tree that is read from the compiler's bytes: every kind of node, its constants and its positions."""

from __future__ import annotations

import pytest

from paynow.policy.language import Language
from paynow.policy.tree import Call, Const, Items, Loop, Name, Node, Other, walk

LANGUAGE = Language({"a.whole": int, "a.real": float, "a.flag": bool, "a.text": str})


def tree(text: str) -> Node:
    return LANGUAGE.compile(text).tree()


def test_operators_names_and_constants_stand_where_they_were_written():
    assert tree("a.whole > 5 && !a.flag") == Call(
        "_&&_",
        (Call("_>_", (Name("a.whole", 1), Const(5, 10)), 8), Call("!_", (Name("a.flag", 17),), 15)),
        12,
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775807", 2**63 - 1),
        ("1.5", 1.5),
        ("-1e300", -1e300),
        ("true", True),
        ("false", False),
        ("'ü\\n'", "ü\n"),
        ("''", ""),
    ],
)
def test_constants_keep_value_and_type(text, value):
    node = tree(text)
    assert isinstance(node, Const)
    assert (node.value, type(node.value)) == (value, type(value))


@pytest.mark.parametrize("text", ["null", "5u", "b'a'"])
def test_constants_of_other_kinds_are_not_followed(text):
    assert isinstance(tree(text), Other)


def test_lists_methods_and_choices_are_read():
    assert tree("a.whole in [1, 2]").arguments[1] == Items((Const(1, 12), Const(2, 15)), 11)
    assert tree("a.text.startsWith('b')").arguments == (Name("a.text", 1), Const("b", 18))
    assert [type(part) for part in tree("a.flag ? a.whole > 1 : false").arguments] == [Name, Call, Const]


def test_names_inside_of_everything_are_found():
    for text in (
        "['x'].exists(x, x == a.text)",
        "{'k': a.flag}['k']",
        "{a.text: true}[a.text]",
        "[1].map(x, x + a.whole).exists(x, x > 1)",
        "size(a.text) > 1",
    ):
        assert any(isinstance(node, Name) and node.name.startswith("a.") for node in walk(tree(text))), text


def test_a_loop_tells_what_it_goes_through():
    loop = tree("[1, 2].all(x, x > a.whole)")
    assert isinstance(loop, Loop)
    assert isinstance(loop.over, Items)
