"""Accounts are brought in: all or nothing, exactly, again without doubling, and beside payments that go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from database import execute
from paynow.payments.opening_accounts import read_accounts
from paynow.store.audit import audit
from paynow.store.imports import FAULTS_KEPT_MAX, ImportRefused, OpeningAccount, import_accounts
from paynow.store.session import DatabaseFailed
from service import balance, open_account
from waiting import eventually

HEADER = "customer_id,currency,balance\n"
WAITING = "select pid from pg_stat_activity where application_name = 'paynow accounts import' and wait_event_type = 'Lock'"


@pytest.fixture
def bring_in(database: str, tmp_path: Path) -> Callable[..., dict[str, int]]:
    """Imports a file of these lines."""

    def run(lines: str, **options: bool) -> dict[str, int]:
        file = tmp_path / "accounts.csv"
        file.write_text(HEADER + lines, encoding="utf-8")
        return {outcome: count for outcome, count in import_accounts(database, read_accounts(file), **options).items() if count}

    return run


def accounts(dsn: str) -> list[tuple]:
    return execute(dsn, "select customer_id, currency, available, reserved, opening, entry_seq from accounts order by 1, 2")


def entries(dsn: str) -> list[tuple]:
    return execute(dsn, "select customer_id, currency, entry_seq, kind, available_change from ledger_entries order by 1, 2, 3")


def assert_audited(dsn: str) -> None:
    _, findings = audit(dsn)
    assert [finding.check.name for finding in findings if finding.offenders] == []


def test_accounts_are_opened_with_a_credit_each_in_exact_minor_units(bring_in, database: str) -> None:
    assert bring_in("c_2,BHD,1.005\nc_1,USD,125.50\nc_1,JPY,500\n") == {"created": 3}
    assert accounts(database) == [("c_1", "JPY", 500, 0, 500, 1), ("c_1", "USD", 12_550, 0, 12_550, 1), ("c_2", "BHD", 1_005, 0, 1_005, 1)]
    assert entries(database) == [("c_1", "JPY", 1, "credit", 500), ("c_1", "USD", 1, "credit", 12_550), ("c_2", "BHD", 1, "credit", 1_005)]
    assert_audited(database)


def test_an_account_may_be_opened_empty(bring_in, database: str) -> None:
    assert bring_in("c_1,USD,0.00\n") == {"created": 1}
    assert accounts(database) == [("c_1", "USD", 0, 0, 0, 0)]
    assert entries(database) == []
    assert_audited(database)


def test_the_same_file_again_changes_nothing_also_after_money_was_spent(bring_in, database: str) -> None:
    bring_in("c_1,USD,10.00\nc_2,USD,5\n")
    execute(database, "update accounts set available = 300 where customer_id = 'c_1'")
    assert bring_in("c_1,USD,10\nc_2,USD,5.000\n") == {"unchanged": 2}
    assert balance(database, "c_1") == (300, 0)
    assert len(entries(database)) == 2


def test_another_amount_is_refused_with_its_line_and_nothing_is_brought_in(bring_in, database: str) -> None:
    bring_in("c_1,USD,10\n")
    with pytest.raises(ImportRefused) as refused:
        bring_in("c_0,USD,1\nc_1,USD,12\n")
    assert refused.value.faults == ((3, "the account was opened with 10.00 USD: --adjust writes an entry of the difference"),)
    assert refused.value.faults_in_all == 1
    assert [row[0] for row in accounts(database)] == ["c_1"]
    assert execute(database, "select customer_id from customers") == [("c_1",)]


def test_adjust_writes_an_entry_of_the_difference_up_and_down(bring_in, database: str) -> None:
    bring_in("c_1,USD,10\nc_2,USD,10\nc_3,USD,10\nc_5,USD,0\n")
    assert bring_in("c_1,USD,12\nc_2,USD,7\nc_3,USD,10\nc_4,USD,1\nc_5,USD,3\n", adjust=True) == {"created": 1, "adjusted": 3, "unchanged": 1}
    assert [row[2:] for row in accounts(database)] == [(1200, 0, 1200, 2), (700, 0, 700, 2), (1000, 0, 1000, 1), (100, 0, 100, 1), (300, 0, 300, 1)]
    assert [row for row in entries(database) if row[3] == "adjust"] == [
        ("c_1", "USD", 2, "adjust", 200),
        ("c_2", "USD", 2, "adjust", -300),
        ("c_5", "USD", 1, "adjust", 300),
    ]
    assert_audited(database)
    assert bring_in("c_1,USD,12\nc_2,USD,7\n", adjust=True) == {"unchanged": 2}


def test_an_adjustment_below_zero_is_refused_with_its_line(bring_in, database: str) -> None:
    bring_in("c_1,USD,10\nc_2,USD,10\n")
    with closing(psycopg2.connect(database)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("update accounts set available = 300, entry_seq = 2 where customer_id = 'c_1'")
        cursor.execute("""insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change)
            values ('c_1', 'USD', 2, 'adjust', -700, 0)""")
    with pytest.raises(ImportRefused) as refused:
        bring_in("c_2,USD,11\nc_1,USD,6.99\n", adjust=True)
    assert refused.value.faults == ((3, "an entry of -3.01 USD would take what is available, 3.00, below zero"),)
    assert balance(database, "c_2") == (1000, 0)
    assert bring_in("c_2,USD,11\nc_1,USD,7\n", adjust=True) == {"adjusted": 2}
    assert balance(database, "c_1") == (0, 0)
    assert_audited(database)


def test_an_account_twice_in_the_file_is_a_fault_wherever_the_lines_stand(bring_in, database: str) -> None:
    with pytest.raises(ImportRefused) as refused:
        bring_in("c_1,USD,1\nc_1,EUR,1\nc_2,USD,1\nc_1,USD,1\nc_1,USD,2\n")
    assert refused.value.faults == ((5, "the account stands on line 2 already"), (6, "the account stands on line 2 already"))
    assert accounts(database) == []


def test_a_dry_run_says_the_same_and_leaves_nothing(bring_in, database: str) -> None:
    bring_in("c_1,USD,10\n")
    assert bring_in("c_1,USD,12\nc_2,USD,1\n", adjust=True, dry_run=True) == {"adjusted": 1, "created": 1}
    with pytest.raises(ImportRefused):
        bring_in("c_1,USD,12\n", dry_run=True)
    assert accounts(database) == [("c_1", "USD", 1000, 0, 1000, 1)]
    assert execute(database, "select customer_id from customers") == [("c_1",)]


def test_of_many_faults_the_first_are_kept_and_all_are_counted(bring_in, database: str) -> None:
    lines = [f"c_{number},USD,1\n" for number in range(100)]
    bring_in("".join(lines))
    with pytest.raises(ImportRefused) as refused:
        bring_in("".join(line.replace(",1\n", ",2\n") for line in lines))
    assert [line for line, _ in refused.value.faults] == list(range(2, 2 + FAULTS_KEPT_MAX))
    assert refused.value.faults_in_all == 100
    with pytest.raises(ImportRefused) as refused:
        bring_in("".join(lines) + "".join(lines))
    assert [line for line, _ in refused.value.faults] == list(range(102, 102 + FAULTS_KEPT_MAX))
    assert refused.value.faults_in_all == 100


def test_more_lines_than_one_chunk_holds(database: str) -> None:
    many = 25_000
    rows = (OpeningAccount(number, f"c_{number % 12_500}", "USD" if number < 12_500 else "EUR", number) for number in range(many))
    stages: list[str] = []
    assert import_accounts(database, rows, stage=stages.append) == {"created": many}
    assert stages == ["checking", "writing"]
    assert execute(database, "select count(*), sum(available) from accounts") == [(many, many * (many - 1) // 2)]
    assert execute(database, "select count(*) from customers") == [(12_500,)]
    assert_audited(database)


def test_what_reading_raises_ends_the_import_and_leaves_nothing(database: str) -> None:
    def broken() -> Iterable[OpeningAccount]:
        yield OpeningAccount(2, "c_1", "USD", 1)
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        import_accounts(database, broken())
    assert accounts(database) == []


def test_a_customer_whose_account_stays_as_it_is_is_not_locked(bring_in, database: str) -> None:
    bring_in("c_1,USD,10\n")
    with closing(psycopg2.connect(database)) as settling, settling.cursor() as cursor:
        cursor.execute("select from customers where customer_id = 'c_1' for no key update")
        assert bring_in("c_1,USD,10\nc_2,USD,1\n") == {"unchanged": 1, "created": 1}


def test_imports_take_turns(bring_in, database: str) -> None:
    """What one has judged unchanged is not locked; no other import may change it meanwhile."""
    came: list[dict[str, int]] = []
    with closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(hashtext('paynow.import'))")
        importing = threading.Thread(target=lambda: came.append(bring_in("c_1,USD,4\n")))
        importing.start()
        eventually(lambda: execute(database, WAITING))
        assert came == []
    importing.join()
    assert came == [{"created": 1}]


def test_an_adjustment_waits_for_a_settle_and_sees_what_it_did_whatever_isolation_is_the_default(bring_in, database: str) -> None:
    execute(database, f"alter database {psycopg2.extensions.parse_dsn(database)['dbname']} set default_transaction_isolation = 'repeatable read'")
    open_account(database, "c_1", 1000)
    came: list[object] = []

    def adjusting() -> None:
        try:
            came.append(bring_in("c_1,USD,4\n", adjust=True))
        except ImportRefused as refused:
            came.append(refused.faults)

    with closing(psycopg2.connect(database)) as settling, settling.cursor() as cursor:
        cursor.execute("select from customers where customer_id = 'c_1' for no key update")
        cursor.execute("update accounts set available = 500, reserved = 500 where customer_id = 'c_1'")
        importing = threading.Thread(target=adjusting)
        importing.start()
        eventually(
            lambda: execute(
                database, "select pid from pg_stat_activity where application_name = 'paynow accounts import' and wait_event_type = 'Lock'"
            )
        )
        settling.commit()
    importing.join()
    assert came == [((2, "an entry of -6.00 USD would take what is available, 5.00, below zero"),)]


def test_two_imports_in_opposite_order_do_not_lock_each_other_out(database: str) -> None:
    rows = [OpeningAccount(number, f"c_{number}", "USD", 100) for number in range(2_000)]
    outcomes: list[dict[str, int]] = []
    threads = [threading.Thread(target=lambda order=order: outcomes.append(dict(import_accounts(database, order)))) for order in (rows, rows[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes, key=str) == [{"created": 2_000}, {"unchanged": 2_000}]
    assert execute(database, "select count(*) from ledger_entries") == [(2_000,)]


def test_a_server_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(DatabaseFailed, match=r"^PostgreSQL cannot be reached: [^\n]+$"):
        import_accounts("host=/nowhere user=paynow dbname=paynow", [])
