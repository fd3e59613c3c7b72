"""`paynow keys` as an operator runs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from commands import paynow
from database import execute
from paynow.api_keys import SCOPES, key_id_of, sha256


def test_a_key_is_shown_alone_on_the_output_and_only_its_hash_is_kept(database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "keys", "create", "--name", "shop", "--scopes", "payments:read, payments:decide,payments:read")
    key = ended.out.removesuffix("\n")
    assert ended.code == 0
    assert "X-API-Key" in ended.err
    ((key_id, secret, scopes, expires_at, rate),) = execute(database, "select key_id, secret_sha256, scopes, expires_at, rate_per_s from api_keys")
    assert (key_id_of(key), sha256(key)) == (key_id, bytes(secret))
    assert (scopes, expires_at, rate) == (["payments:read", "payments:decide"], None, None)
    listed = paynow(tmp_path, database, "keys", "list")
    assert key not in listed.out
    assert [line.split()[:3] for line in listed.out.splitlines()] == [["id", "name", "state"], [key_id, "shop", "valid"]]


def test_programs_get_what_was_asked_for_with_the_key_once(database: str, tmp_path: Path) -> None:
    arguments = ("--name", "ops", "--scopes", "all", "--expires-in", "90d", "--rate", "150/m", "--json")
    made = paynow(tmp_path, database, "keys", "create", *arguments).json()
    assert made["scopes"] == list(SCOPES)
    assert (made["state"], made["ratePerS"], made["revokedAt"], made["lastUsedAt"]) == ("valid", 2.5, None, None)
    left = datetime.fromisoformat(made["expiresAt"]) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < left <= timedelta(days=90)
    assert execute(database, "select rate_per_s, rate_burst from api_keys") == [(2.5, 3)]
    (listed,) = paynow(tmp_path, database, "keys", "list", "--json").json()
    assert key_id_of(made.pop("key")) == made["id"]
    assert {**listed, "createdAt": None} == {**made, "createdAt": None}


def test_a_revoked_key_says_since_when_and_an_expired_one_is_told_apart(database: str, tmp_path: Path) -> None:
    ids = [paynow(tmp_path, database, "keys", "create", "--name", "n", "--scopes", "all", "--json").json()["id"] for _ in range(2)]
    first = paynow(tmp_path, database, "keys", "revoke", ids[0])
    again = paynow(tmp_path, database, "keys", "revoke", ids[0])
    assert (first.code, again.code) == (0, 0)
    assert first.out.startswith(f"{ids[0]} is revoked since ")
    assert again.out == first.out
    execute(database, "update api_keys set expires_at = now() where key_id = %s", ids[1])
    assert {key["id"]: key["state"] for key in paynow(tmp_path, database, "keys", "list", "--json").json()} == {ids[0]: "revoked", ids[1]: "expired"}


def test_an_unknown_id_cannot_be_revoked(database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "keys", "revoke", "nobody")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "paynow: there is no key with the id nobody: see paynow keys list\n"


def test_an_empty_list_says_how_to_make_one(database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "keys", "list")
    assert ended.code == 0
    assert "paynow keys create" in ended.err
    assert paynow(tmp_path, database, "keys", "list", "--json").json() == []


WRONG = {
    "unknown scope": (["--name", "n", "--scopes", "payment:decide"], "did you mean payments:decide?"),
    "no scope": (["--name", "n", "--scopes", " , "], f"all, {', '.join(SCOPES)}"),
    "empty name": (["--name", " ", "--scopes", "all"], "printable"),
    "a name that moves the cursor": (["--name", "a\x1b[2J", "--scopes", "all"], "printable"),
    "a name that is no text": (["--name", "a\udcff", "--scopes", "all"], "printable"),
    "rate": (["--name", "n", "--scopes", "all", "--rate", "5"], "a rate like 5/s"),
    "rate of nothing": (["--name", "n", "--scopes", "all", "--rate", "0/s"], "greater than zero"),
    "time": (["--name", "n", "--scopes", "all", "--expires-in", "soon"], "a time like 90s"),
    "no time": (["--name", "n", "--scopes", "all", "--expires-in", "0d"], "from 1s to 36500d"),
    "too much time": (["--name", "n", "--scopes", "all", "--expires-in", "999999999d"], "from 1s to 36500d"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_refused_before_a_database_is_looked_for(case: str, tmp_path: Path) -> None:
    arguments, says = WRONG[case]
    ended = paynow(tmp_path, "host=/nowhere", "keys", "create", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
