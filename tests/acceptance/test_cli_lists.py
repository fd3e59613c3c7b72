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


HEAD = "kind,id,list,reason,expires_at\n"
FILE = HEAD + 'customer,c_666,block,"fraud ring, ""old"" \\ one",2099-01-31T12:00:00+01:00\npayee,p_1,allow,checked by phone,\n'


def counts(added: int, renewed: int, unchanged: int, *, dry_run: bool = False) -> dict[str, object]:
    return {"dryRun": dry_run, "added": added, "renewed": renewed, "unchanged": unchanged}


def test_a_file_is_brought_in_once_however_often_it_is_imported(database: str, tmp_path: Path) -> None:
    file = tmp_path / "lists.csv"
    file.write_text(FILE)
    assert paynow(tmp_path, database, "lists", "import", "lists.csv", "--dry-run", "--json").json() == counts(2, 0, 0, dry_run=True)
    assert execute(database, "select count(*) from lists") == [(0,)]
    assert paynow(tmp_path, database, "lists", "import", "lists.csv").out == "2 added, 0 renewed, 0 unchanged\n"
    first = execute(database, "select * from lists order by kind")
    assert paynow(tmp_path, database, "lists", "import", "lists.csv", "--json").json() == counts(0, 0, 2)
    assert execute(database, "select * from lists order by kind") == first
    shown = paynow(tmp_path, database, "lists", "show", "--json").json()
    assert [(entry["id"], entry["reason"], entry["expiresAt"]) for entry in shown] == [
        ("c_666", 'fraud ring, "old" \\ one', "2099-01-31T11:00:00.000Z"),
        ("p_1", "checked by phone", None),
    ]
    assert all(entry["author"] for entry in shown)
    file.write_text(FILE.replace("checked by phone", "checked in person"))
    assert paynow(tmp_path, database, "lists", "import", "lists.csv", "--json").json() == counts(0, 1, 1)
    assert execute(database, "select reason from list_history where subject = 'p_1' order by position") == [
        ("checked by phone",),
        ("checked in person",),
    ]


@pytest.mark.parametrize(
    ("lines", "faults"),
    [
        ("merchant,c_2,block,r,\n", ["3: kind: expected customer or payee"]),
        ("customer,c 2,block,r,\n", ["3: id: expected 1 to 64 of the characters A-Z a-z 0-9 _ . : -"]),
        ("customer,c_2,grey,r,\n", ["3: list: expected allow or block"]),
        ("customer,c_2,block,,\n", ["3: reason: expected 1 to 200 printable characters"]),
        ("customer,c_2,block,r,2099-01-01T00:00:00\ncustomer,c_3,block,r,soon\n", [f"{n}: expires_at: expected a time in RFC 3339" for n in (3, 4)]),
        ("customer,c_2,block,r\n", ["3: has 4 fields, expected 5"]),
        ("customer,c_1,allow,r,\ncustomer,c_1,block,other,\n", ["4: the entry stands on line 2 already"]),
    ],
)
def test_a_file_with_a_fault_brings_in_nothing(database: str, tmp_path: Path, lines: str, faults: list[str]) -> None:
    (tmp_path / "lists.csv").write_text(f"{HEAD}customer,c_1,block,r,\n{lines}")
    ended = paynow(tmp_path, database, "lists", "import", "lists.csv")
    assert (ended.code, ended.out) == (1, "")
    assert [line.startswith(f"lists.csv:{fault}") for line, fault in zip(ended.err.splitlines(), faults, strict=False)] == [True] * len(faults), (
        ended.err
    )
    assert f"paynow: nothing was brought in: the file has faults, {len(faults)} in all" in ended.err
    assert execute(database, "select count(*) from lists") == [(0,)]


def test_a_large_file_is_one_transaction(database: str, tmp_path: Path) -> None:
    lines = "".join(f"payee,p_{number},block,r,\n" for number in range(25_000))
    (tmp_path / "lists.csv").write_text(f"{HEAD}{lines}")
    assert paynow(tmp_path, database, "lists", "import", "lists.csv", "--json").json() == counts(25_000, 0, 0)
    (tmp_path / "lists.csv").write_text(f"{HEAD}customer,c_new,block,r,\n{lines}payee,p_7,block,again,\n")
    ended = paynow(tmp_path, database, "lists", "import", "lists.csv")
    assert (ended.code, ended.err.splitlines()[0]) == (1, "lists.csv:25003: the entry stands on line 10 already")
    assert execute(database, "select count(*), count(distinct added_at) from lists") == [(25_000, 1)]
