"""The page on policies: each of its examples is one, each of its messages is what PayNow says, and its list of names is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from built_in_tools import built_in_tools

from paynow.errors import ConfigurationRefused
from paynow.policy import REASON_CODES_RESERVED, compile_policy
from paynow.policy.examples import EXAMPLE_KEYS
from paynow.policy.source import EXAMPLES_MAX, MESSAGE_LENGTH_MAX, RULE_KEYS, RULES_MAX, SCORE_MAX, TEXT_LENGTH_MAX, WHEN_LENGTH_MAX
from paynow.policy.vocabulary import Vocabulary

PAGE = (Path(__file__).parents[3] / "docs" / "policy.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("example", blocks("toml"))
def test_every_example_is_a_policy(example):
    compile_policy(example, origin="docs/policy.md", tools=built_in_tools())


def test_there_are_examples():
    assert len(blocks("toml")) >= 3


def test_the_faults_of_the_refused_example_are_shown_as_they_are():
    [example], [shown] = blocks("toml refused"), blocks("text")
    with pytest.raises(ConfigurationRefused) as refused:
        compile_policy(example, origin="config/policy.toml", tools=built_in_tools())
    assert str(refused.value).splitlines() == shown.splitlines()


def test_the_page_lists_every_name_with_its_meaning():
    vocabulary = Vocabulary.of(built_in_tools())
    listed = dict(re.findall(r"^\| `([a-zA-Z_.0-9]+\.[a-z_0-9]+)` \| (.+?) \|$", PAGE, re.MULTILINE))
    assert listed == {name: vocabulary.meaning(name).replace('"', "`") for name in vocabulary.fields}


def test_the_page_tells_every_bound_and_every_reserved_code():
    for bound in (MESSAGE_LENGTH_MAX, RULES_MAX, EXAMPLES_MAX, SCORE_MAX, TEXT_LENGTH_MAX, WHEN_LENGTH_MAX):
        assert f"{bound:,}" in PAGE
    for code in REASON_CODES_RESERVED:
        assert f"`{code}`" in PAGE


def test_the_page_tells_every_key():
    keys = {key for line in re.findall(r"^\| ([a-z_, ]+) \| ", PAGE, re.MULTILINE) for key in line.split(", ")} - {"key", "write", "condition"}
    assert keys == {*RULE_KEYS, *EXAMPLE_KEYS}
