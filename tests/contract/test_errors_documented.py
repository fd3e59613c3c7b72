"""Error codes, field codes and reason codes are closed lists, and the documents hold all of them and no others."""

from __future__ import annotations

import ast
import json
import re
from inspect import getdoc
from pathlib import Path

import pytest

from paynow import errors
from paynow.errors import Refusal
from paynow.http import examples, openapi
from paynow.payments.answer import INSUFFICIENT_FUNDS
from paynow.policy import REASON_CODES_RESERVED

ROOT = Path(__file__).parents[2]
DOCUMENTATION = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
REFUSALS = pytest.mark.parametrize("refusal", errors.refusals(), ids=lambda refusal: refusal.code)


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.+?)(?=^## |\Z)", DOCUMENTATION, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def rows(title: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    return [line.strip("| ").split(" | ") for line in section(title).splitlines() if line.startswith("| ")][1:]


def test_the_list_of_refusals_is_the_whole_tree() -> None:
    def below(cls: type[Refusal]) -> list[type[Refusal]]:
        return [found for child in cls.__subclasses__() for found in (child, *below(child))]

    assert set(below(Refusal)) == set(errors.refusals())


def test_every_code_stands_for_one_refusal() -> None:
    codes = [refusal.code for refusal in errors.refusals()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


@REFUSALS
def test_every_refusal_says_what_it_means(refusal: type[Refusal]) -> None:
    own = refusal.__dict__.get("__doc__") or ""
    assert len(own) > 30
    assert getdoc(refusal)
    assert refusal.title
    assert not refusal.title.endswith(".")
    assert 400 <= refusal.status <= 599


@REFUSALS
def test_every_refusal_stands_in_the_tree_of_its_module(refusal: type[Refusal]) -> None:
    assert re.search(rf"── {refusal.__name__} +{refusal.status} {refusal.code}\b", errors.__doc__ or "")


def test_the_documentation_lists_every_error_code_and_no_other() -> None:
    expected = [[str(refusal.status), f"`{refusal.code}`", "yes" if refusal.retryable else "no", refusal.title] for refusal in errors.refusals()]
    assert rows("Error codes") == expected


@REFUSALS
def test_the_introduction_of_the_api_lists_every_error_code(refusal: type[Refusal]) -> None:
    line = f"| {refusal.status} | [`{refusal.code}`](/docs/errors/{refusal.code}) | {refusal.title} |"
    assert line in openapi.document()["info"]["description"]


def test_the_documented_example_is_what_is_answered() -> None:
    (block,) = re.findall(r"^```json\n(.+?)^```$", DOCUMENTATION, re.MULTILINE | re.DOTALL)
    assert json.loads(block) == examples.problem_of(errors.InvalidRequest)


def test_reason_codes_are_a_closed_list() -> None:
    assert set(openapi.REASON_CODES) == {INSUFFICIENT_FUNDS.code, *REASON_CODES_RESERVED}


def test_the_documents_list_every_reason_code_and_no_other() -> None:
    assert rows("Reason codes") == [[f"`{code}`", meaning] for code, meaning in openapi.REASON_CODES.items()]
    description = openapi.document()["info"]["description"]
    assert all(f"| `{code}` | {meaning} |" in description for code, meaning in openapi.REASON_CODES.items())


def codes_of_faults() -> set[str]:
    """The codes in every `FieldFault(field, code, …)`, `Fault(code, …)` and `_refused(field, code, …)` of the door."""
    places = {"FieldFault": 1, "Fault": 0, "_refused": 1}
    found = set()
    for path in (ROOT / "paynow" / "http").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in places and len(call.args) > 1:
                code = call.args[places[call.func.id]]
                if isinstance(code, ast.Constant):
                    found.add(code.value)
    return found


def test_the_documentation_lists_every_code_of_a_field_and_no_other() -> None:
    documented = [code.strip("`") for code, _ in rows("What is wrong with a field")]
    assert len(set(documented)) == len(documented)
    assert set(documented) == codes_of_faults()
