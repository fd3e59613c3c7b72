"""`paynow migrate` as an operator runs it."""

from __future__ import annotations

from pathlib import Path

from commands import paynow
from database import execute


def test_what_is_lacking_is_told_applied_and_not_applied_again(empty_database: str, tmp_path: Path) -> None:
    pending = paynow(tmp_path, empty_database, "migrate", "--dry-run", "--json").json()["pending"]
    assert pending[0] == "0001_foundation"
    assert pending[-1] == "functions"
    assert paynow(tmp_path, empty_database, "migrate", "--dry-run").out.splitlines() == [f"would apply {name}" for name in pending]
    assert execute(empty_database, "select to_regclass('payments')") == [(None,)]
    assert paynow(tmp_path, empty_database, "migrate").out.splitlines() == [f"applied {name}" for name in pending]
    assert paynow(tmp_path, empty_database, "migrate").out == "the database is up to date\n"
    assert paynow(tmp_path, empty_database, "migrate", "--json").json() == {"applied": []}


def test_the_status_says_when(database: str, empty_database: str, tmp_path: Path) -> None:
    assert all(state["appliedAt"].endswith("Z") for state in paynow(tmp_path, database, "migrate", "--status", "--json").json())
    assert all(state["appliedAt"] is None for state in paynow(tmp_path, empty_database, "migrate", "--status", "--json").json())
    lines = paynow(tmp_path, empty_database, "migrate", "--status").out.splitlines()
    assert [line.split() for line in lines[:2]] == [["migration", "applied"], ["0001_foundation", "pending"]]


def test_two_questions_at_once_are_wrong_use(tmp_path: Path) -> None:
    assert paynow(tmp_path, "host=/nowhere", "migrate", "--status", "--dry-run").code == 2


def test_a_database_that_is_newer_is_refused(database: str, tmp_path: Path) -> None:
    execute(database, "insert into schema_migrations (version, name, sha256) values (9999, '9999_later', '')")
    ended = paynow(tmp_path, database, "migrate")
    assert (ended.code, ended.out) == (1, "")
    assert "newer than this PayNow" in ended.err
