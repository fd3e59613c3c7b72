"""What a tool says against what it declared."""

from __future__ import annotations

from collections import UserDict
from enum import IntEnum, StrEnum

import orjson
import pytest

from paynow.agent.outcome import InvalidOutput
from paynow.agent.output import OutputCheck
from paynow.plugin_api import choice, flag, real, text, whole


class Level(StrEnum):
    HIGH = "high"


class Rank(IntEnum):
    FIRST = 1


WRONG = {
    "a flag for a whole number": (whole(), True),
    "a float for a whole number": (whole(), 1.0),
    "more than 64 bits": (whole(), 2**63),
    "below the minimum": (whole(minimum=0), -1),
    "above the maximum": (whole(maximum=10), 11),
    "a text for a number": (real(), "1.5"),
    "NaN": (real(), float("nan")),
    "infinity": (real(), float("inf")),
    "a whole number that no float holds": (real(), 10**400),
    "a whole number for a flag": (flag(), 0),
    "a word that is no choice": (choice("none", "block"), "allow"),
    "bytes for a text": (text(), b"fine"),
    "a text that is too long": (text(length_max=3), "four"),
    "a lone surrogate": (text(), "\ud800"),
    "NUL": (text(), "a\0b"),
    "None": (text(), None),
    "a list": (text(), ["fine"]),
}


@pytest.mark.parametrize(("field", "value"), WRONG.values(), ids=WRONG.keys())
def test_a_value_that_was_not_declared_is_refused_by_its_fields_name(field, value):
    with pytest.raises(InvalidOutput) as raised:
        OutputCheck({"it": field})({"it": value})
    assert raised.value.code == "wrong_it"


RIGHT = {
    "a whole number": (whole(minimum=0), 3, 3),
    "an enum's number": (whole(), Rank.FIRST, 1),
    "a whole number for a real one": (real(), 3, 3.0),
    "a word": (choice("high", "low"), "high", "high"),
    "an enum's word": (choice("high", "low"), Level.HIGH, "high"),
    "a text beyond ASCII": (text(), "für 5 €", "für 5 €"),
    "a flag": (flag(), False, False),
}


@pytest.mark.parametrize(("field", "value", "plain"), RIGHT.values(), ids=RIGHT.keys())
def test_a_declared_value_becomes_a_plain_one(field, value, plain):
    checked = OutputCheck({"it": field})({"it": value})
    assert checked == {"it": plain}
    assert type(checked["it"]) is type(plain)
    assert orjson.loads(orjson.dumps(checked)) == checked


def test_any_mapping_will_do_and_becomes_a_dict():
    checked = OutputCheck({"it": flag()})(UserDict(it=True))
    assert (checked, type(checked)) == ({"it": True}, dict)


def test_a_mapping_that_lies_is_refused():
    class Liar(UserDict):
        def __len__(self):
            return 2

    with pytest.raises(InvalidOutput):
        OutputCheck({"it": flag()})(Liar(it=True))


def test_a_tool_may_have_nothing_to_say():
    assert OutputCheck({})({}) == {}
    with pytest.raises(InvalidOutput):
        OutputCheck({})({"it": True})


def test_a_fields_name_that_makes_no_code_is_not_repeated():
    with pytest.raises(InvalidOutput) as raised:
        OutputCheck({"no name": flag()})({})
    assert raised.value.code == "invalid_output"
