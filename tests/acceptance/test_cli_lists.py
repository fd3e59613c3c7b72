"""`paynow lists` as an operator runs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from commands import paynow
from database import execute


def listed(database: str, kind: str, subject: str) -> str:
    return execute(database, "select read_listing(%s::listed_kind, %s)", kind, subject)[0][0]


def test_a_listing_counts_until_it_is_removed(database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "lists", "add", "customer", "c_1", "block", "--reason", "fraud ring")
    assert (ended.code, ended.out) == (0, "customer c_1 is on the block list\n")
    assert (listed(database, "customer", "c_1"), listed(database, "payee", "c_1")) == ("block", "none")
    ended = paynow(tmp_path, database, "lists", "remove", "customer", "c_1", "block")
    assert (ended.code, ended.out) == (0, "customer c_1 is off the block list\n")
    assert listed(database, "customer", "c_1") == "none"
    ended = paynow(tmp_path, database, "lists", "remove", "customer", "c_1", "block")
    assert (ended.code, ended.err) == (1, "paynow: customer c_1 is not on the block list\n")


def test_adding_again_renews_reason_and_expiry(database: str, tmp_path: Path) -> None:
    for reason in ("first", "second"):
        assert paynow(tmp_path, database, "lists", "add", "payee", "p_1", "allow", "--reason", reason, "--expires-in", "30d").code == 0
    (entry,) = paynow(tmp_path, database, "lists", "show", "--json").json()
    assert {name: entry[name] for name in ("kind", "id", "list", "state", "reason")} == {
        "kind": "payee",
        "id": "p_1",
        "list": "allow",
        "state": "valid",
        "reason": "second",
    }
    left = datetime.fromisoformat(entry["expiresAt"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)


def test_what_has_expired_is_shown_as_such(database: str, tmp_path: Path) -> None:
    paynow(tmp_path, database, "lists", "add", "customer", "c_1", "block", "--reason", "r", "--expires-in", "1d")
    execute(database, "update lists set expires_at = now()")
    lines = paynow(tmp_path, database, "lists", "show").out.splitlines()
    assert lines[1].split()[:5] == ["customer", "c_1", "block", "expired", "r"]
    assert listed(database, "customer", "c_1") == "none"


@pytest.mark.parametrize(
    "arguments",
    [
        ["merchant", "c_1", "block", "--reason", "r"],
        ["customer", "c 1", "block", "--reason", "r"],
        ["customer", "c" * 65, "block", "--reason", "r"],
        ["customer", "c_1", "grey", "--reason", "r"],
        ["customer", "c_1", "block", "--reason", ""],
        ["customer", "c_1", "block"],
    ],
)
def test_wrong_use_is_refused_before_a_database_is_looked_for(arguments: list[str], tmp_path: Path) -> None:
    ended = paynow(tmp_path, "host=/nowhere", "lists", "add", *arguments)
    assert (ended.code, ended.out) == (2, "")
