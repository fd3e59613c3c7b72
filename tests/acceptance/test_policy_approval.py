"""A policy that one person proposes and another approves, at the command line and over HTTP, each with a key of their own."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from commands import Ended, paynow
from database import execute
from reviews import clients, get, in_a_loop_of_its_own, make_keys, post
from service import RunningService, body, open_account

SCOPES = ("policies:read", "policies:write")
STRICT = '[[rule]]\nid = "all"\nwhen = "payment.amount_minor >= {least}"\nthen = "review"\nmessage = "Every payment"\n'


class Person:
    """Somebody at a terminal, with a key and the setting that asks for approval."""

    def __init__(self, service: RunningService, folder: Path, key: tuple[str, str]) -> None:
        self.key_id = key[0]
        self._service, self._folder, self._key = service, folder, key[1]

    def __call__(self, *arguments: str, dsn: str = "host=/nowhere") -> Ended:
        return paynow(self._folder, dsn, "policy", *arguments, API_KEY=self._key, PAYNOW_POLICY__APPROVAL="required")

    def by_service(self, *arguments: str) -> Ended:
        return self(*arguments, "--url", self._service.url)


@pytest.fixture
def people(service: RunningService, tmp_path: Path) -> tuple[Person, Person]:
    one, other = in_a_loop_of_its_own(make_keys(service.dsn, 2, SCOPES))
    return Person(service, tmp_path, one), Person(service, tmp_path, other)


def active(dsn: str) -> str:
    return execute(dsn, "select version from policies where active")[0][0]


def write(folder: Path, least: int = 1) -> str:
    (folder / "new.toml").write_text(STRICT.format(least=least))
    return "new.toml"


def test_what_one_key_proposes_another_approves(service: RunningService, people: tuple[Person, Person], tmp_path: Path) -> None:
    anna, ben = people
    before = active(service.dsn)
    proposed = anna.by_service("activate", write(tmp_path))
    assert proposed.code == 0, proposed.err
    version = proposed.out.split()[0]
    expected = f"{version} is proposed by the key {anna.key_id}; another key has to approve it:\n  paynow policy approve {version}\n"
    assert proposed.out == expected
    assert active(service.dsn) == before
    own = anna.by_service("approve", version)
    assert (own.code, own.out) == (1, "")
    assert own.err == "paynow: Another key has to approve the policy (own_proposal)\n"
    assert ben.by_service("proposals", version).out == STRICT.format(least=1)
    assert ben("show", version, dsn=service.dsn).out == STRICT.format(least=1)
    assert "+message = " in ben("diff", active(service.dsn), version, dsn=service.dsn).out
    approved = ben.by_service("approve", version)
    assert approved.out.startswith(f"{version} is the active policy, proposed by the key {anna.key_id} and approved by the key {ben.key_id};")
    assert ben.by_service("approve", version).code == 0, "a repeat is harmless"
    assert active(service.dsn) == version
    (listed,) = ben.by_service("proposals", "--json").json()
    assert (listed["version"], listed["status"], listed["proposedBy"], listed["judgedBy"]) == (version, "approved", anna.key_id, ben.key_id)
    assert ben.by_service("proposals").out.splitlines()[1].split()[:3] == [version, "approved", anna.key_id]
    told = ben("history", "--json", dsn=service.dsn).json()
    assert [(one["version"], one["cause"], one["author"]) for one in told[:3]] == [
        (version, "activated", anna.key_id),
        (version, "approved", ben.key_id),
        (version, "proposed", anna.key_id),
    ]
    assert len(ben("history", "--json", "--last", "2", dsn=service.dsn).json()) == 2


async def test_services_decide_by_what_was_approved(service: RunningService) -> None:
    open_account(service.dsn, "c_1", 1_000_000)
    async with clients(service, await make_keys(service.dsn, 2, SCOPES)) as (anna, ben), service.client() as payer:
        assert (await post(payer, "/api/payments/decide", body(key="k-1")))[1]["decision"] == "allow"
        _, proposed = await post(anna, "/api/policies/proposals", {"policy": STRICT.format(least=1)})
        assert (await post(payer, "/api/payments/decide", body(key="k-2")))[1]["decision"] == "allow"
        assert (await post(ben, f"/api/policies/proposals/{proposed['version']}/approve"))[0] == 200
        number = 3
        while (answer := (await post(payer, "/api/payments/decide", body(key=f"k-{number}")))[1])["policyVersion"] != proposed["version"]:
            number += 1
        assert answer["decision"] == "review"


async def test_of_many_who_approve_at_once_one_does(service: RunningService) -> None:
    keys = await make_keys(service.dsn, 7, SCOPES)
    async with clients(service, keys) as (anna, *others):
        _, proposed = await post(anna, "/api/policies/proposals", {"policy": STRICT.format(least=2)})
        path = f"/api/policies/proposals/{proposed['version']}/approve"
        answers = await asyncio.gather(*(post(client, path) for client in (anna, *others)))
        codes = Counter((status, answer.get("code")) for status, answer in answers)
        assert codes[200, None] == 1
        assert codes[409, "proposal_closed"] + codes[403, "own_proposal"] == 6
    assert execute(service.dsn, "select count(*) from policy_activations where cause = 'activated'") == [(1,)]


async def test_what_is_wrong_is_refused_and_repeats_nothing(service: RunningService) -> None:
    async with clients(service, await make_keys(service.dsn, 1, SCOPES)) as (anna,):
        for document, code in (
            ({"policy": 'when = "canary"'}, "format"),
            ({"policy": ""}, "format"),
            ({"policy": "\0"}, "format"),
            ({"policy": 5}, "type"),
            ({}, "required"),
        ):
            status, answer = await post(anna, "/api/policies/proposals", document)
            assert (status, answer["code"], answer["errors"][0]["field"], answer["errors"][0]["code"]) == (400, "invalid_request", "policy", code)
            assert "canary" not in str(answer)
        for version in ("0" * 32, "x", "%00"):
            assert (await post(anna, f"/api/policies/proposals/{version}/approve"))[0] == 404
        status, answer = await post(anna, "/api/policies/proposals", {"policy": (Path(__file__).parents[1] / "funds_only.toml").read_text()})
        assert (status, answer["code"]) == (409, "proposal_closed")


async def test_reading_and_writing_have_a_scope_each(service: RunningService) -> None:
    async with clients(service, await make_keys(service.dsn, 1, ("policies:read",))) as (reader,):
        assert await get(reader, "/api/policies/proposals") == {"items": [], "nextCursor": None}
        assert (await post(reader, "/api/policies/proposals", {"policy": STRICT.format(least=1)}))[1]["code"] == "missing_scope"


async def test_proposals_come_in_pages(service: RunningService) -> None:
    async with clients(service, await make_keys(service.dsn, 1, SCOPES)) as (anna,):
        versions = [(await post(anna, "/api/policies/proposals", {"policy": STRICT.format(least=least)}))[1]["version"] for least in (1, 2, 3)]
        first = await get(anna, "/api/policies/proposals?limit=2")
        second = await get(anna, f"/api/policies/proposals?limit=2&cursor={first['nextCursor']}")
        assert [one["version"] for one in first["items"] + second["items"]] == versions[::-1]
        assert second["nextCursor"] is None
        assert (await get(anna, f"/api/policies/proposals/{versions[0]}"))["policy"] == STRICT.format(least=1)


def test_a_wrong_policy_is_told_with_its_lines_before_anybody_is_asked(people: tuple[Person, Person], tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text(STRICT.format(least=1).replace("review", "deny"))
    ended = people[0]("activate", "new.toml")
    assert ended.code == 2
    assert ended.err.startswith("new.toml:4: ")


def test_a_refused_policy_is_not_approved(service: RunningService, people: tuple[Person, Person], tmp_path: Path) -> None:
    anna, ben = people
    version = anna.by_service("activate", write(tmp_path)).out.split()[0]
    refused = ben.by_service("refuse", version)
    assert refused.out == f"{version} is refused by the key {ben.key_id}; it was proposed by the key {anna.key_id}\n"
    ended = ben.by_service("approve", version)
    assert (ended.code, ended.err) == (1, f"paynow: The proposal was refused by the key {ben.key_id} (proposal_closed)\n")


def test_a_rollback_needs_no_approval_and_leads_to_nothing_that_was_only_proposed(
    service: RunningService, people: tuple[Person, Person], tmp_path: Path
) -> None:
    anna, ben = people
    before = active(service.dsn)
    version = anna.by_service("activate", write(tmp_path)).out.split()[0]
    assert anna("rollback", version, dsn=service.dsn).code == 1
    ben.by_service("approve", version)
    assert anna("rollback", dsn=service.dsn).out.startswith(f"{before} is the active policy again")
    assert anna("history", "--json", dsn=service.dsn).json()[0]["cause"] == "rolled_back"


def test_without_the_setting_one_person_is_enough(database: str, tmp_path: Path) -> None:
    done = paynow(tmp_path, database, "policy", "activate", write(tmp_path))
    assert "is the active policy" in done.out
    assert execute(database, "select count(*) from policy_proposals") == [(0,)]
