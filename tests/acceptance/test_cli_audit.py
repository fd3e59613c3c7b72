"""`paynow audit` as an operator runs it."""

from __future__ import annotations

from pathlib import Path

from commands import paynow
from database import execute
from paynow.store.audit import CHECKS
from service import open_account


def test_a_clean_database_is_said_to_be_clean_with_a_line_a_check(database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "audit")
    lines = ended.out.splitlines()
    assert (ended.code, ended.err) == (0, "")
    assert [line.split()[0] for line in lines[:-1]] == ["ok"] * len(CHECKS)
    assert lines[-1] == f"all {len(CHECKS)} checks passed"


def test_what_is_broken_is_listed_and_the_exit_code_is_1(database: str, tmp_path: Path) -> None:
    open_account(database, "c_1", 100)
    execute(database, "update accounts set available = 101")
    ended = paynow(tmp_path, database, "audit")
    assert ended.code == 1
    lines = ended.out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("BROKEN")]
    assert lines[at].split()[1] == "2"
    assert lines[at].endswith("accounts_equal_ledger")
    assert lines[at + 1].strip() == "c_1 USD: holds 101 available and 0 reserved; its entries come to 100 and 0"
    assert lines[-1] == f"1 of {len(CHECKS)} checks found something"


def test_many_offenders_are_counted_and_twenty_shown(database: str, tmp_path: Path) -> None:
    execute(database, "insert into known_payees (customer_id, payee_id) select 'c_1', 'p_' || n from generate_series(1, 30) n")
    ended = paynow(tmp_path, database, "audit")
    assert ended.code == 1
    assert "        and 10 more" in ended.out.splitlines()


def test_programs_get_a_list(database: str, tmp_path: Path) -> None:
    findings = paynow(tmp_path, database, "audit", "--json").json()
    assert [finding["check"] for finding in findings] == [check.name for check in CHECKS]
    assert all(finding["ok"] and finding["offenders"] == 0 and finding["shown"] == [] for finding in findings)


def test_a_database_without_the_schema_is_refused(empty_database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, empty_database, "audit")
    assert ended.code == 1
    assert "run paynow migrate" in ended.err
