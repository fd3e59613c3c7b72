"""`paynow cases` as people use it, each with a key of their own."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from commands import Ended, paynow
from reviews import REVIEWS, in_a_loop_of_its_own, make_keys, reviewed
from service import RunningService, open_account


@pytest.fixture(scope="module")
def module_environ() -> dict[str, str]:
    return REVIEWS


class Analyst:
    """A person at a terminal."""

    def __init__(self, service: RunningService, folder: Path, key: tuple[str, str]) -> None:
        self.key_id = key[0]
        self._service, self._folder, self._key = service, folder, key[1]

    def __call__(self, *arguments: str) -> Ended:
        return paynow(self._folder, "host=/nowhere", "cases", *arguments, "--url", self._service.url, API_KEY=self._key)


@pytest.fixture
def analysts(module_service: RunningService, tmp_path: Path) -> tuple[Analyst, Analyst]:
    one, other = in_a_loop_of_its_own(make_keys(module_service.dsn, 2))
    return Analyst(module_service, tmp_path, one), Analyst(module_service, tmp_path, other)


@pytest.fixture
def case_id(module_service: RunningService) -> str:
    customer = f"c_{uuid4().hex}"
    open_account(module_service.dsn, customer, 3_000)

    async def make() -> str:
        async with module_service.client() as client:
            return (await reviewed(client, customer, "k-1"))["caseId"]

    return in_a_loop_of_its_own(make())


def test_a_case_is_worked_from_the_list_to_its_label(analysts: tuple[Analyst, Analyst], case_id: str) -> None:
    one, other = analysts
    assert any(line.startswith(case_id) and " open " in line and "20.00 USD" in line for line in one("list").out.splitlines())
    assert one("claim", case_id).out == f"case {case_id} is claimed by {one.key_id}\n"
    refused = other("claim", case_id)
    assert (refused.code, refused.out, refused.err) == (1, "", f"paynow: The case is held by the key {one.key_id} (case_held)\n")
    assert [case["caseId"] for case in one("list", "--holder", one.key_id, "--json").json()] == [case_id]
    assert other("note", case_id, "Called the customer").code == 0
    assert one("approve", case_id).out == f"case {case_id} is approved by {one.key_id}\n"
    assert one("approve", case_id).code == 0, "a repeat is harmless"
    assert other("label", case_id, "false_positive").out.endswith(f"is approved by {one.key_id}, labelled false_positive\n")
    shown = one("show", case_id, "--json").json()
    assert [(act["act"], act["keyId"]) for act in shown["history"]] == [
        ("claimed", one.key_id),
        ("noted", other.key_id),
        ("approved", one.key_id),
        ("labelled", other.key_id),
    ]
    read = one("show", case_id).out
    assert "reserved  until " in read
    assert "noted     " in read
    assert "Called the customer" in read
    assert [case["caseId"] for case in one("list", "--label", "false_positive", "--newest", "--json").json()] == [case_id]


def test_giving_back_and_declining(analysts: tuple[Analyst, Analyst], case_id: str) -> None:
    one, other = analysts
    one("claim", case_id)
    assert one("unclaim", case_id).out == f"case {case_id} is open\n"
    assert other("decline", case_id).out == f"case {case_id} is declined by {other.key_id}\n"
    assert one("approve", case_id).err == f"paynow: The case was declined by the key {other.key_id} (case_resolved)\n"
    listed = one("list", "--status", "declined", "--currency", "USD", "--amount-min", "20", "--amount-max", "20", "--age-max", "1h", "--json").json()
    assert case_id in [case["caseId"] for case in listed]


def test_what_the_service_refuses_is_said_in_one_line(analysts: tuple[Analyst, Analyst], case_id: str, tmp_path: Path) -> None:
    one, _ = analysts
    ended = one("list", "--amount-min", "5")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "currency is missing" in ended.err
    ended = paynow(tmp_path, None, "cases", "show", case_id, "--url", "http://127.0.0.1:9", API_KEY="x")
    assert (ended.code, ended.out) == (1, "")
    assert "does not answer" in ended.err
    ended = paynow(tmp_path, None, "cases", "list")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "API_KEY" in ended.err


@pytest.mark.parametrize(
    "arguments", [("show", "nonsense"), ("label", "01a20cff-9088-7128-a24b-d23f08244ad5", "fraud"), ("list", "--url", "ftp://x")]
)
def test_wrong_use_is_refused_before_anybody_is_asked(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert paynow(tmp_path, None, "cases", *arguments).code == 2
