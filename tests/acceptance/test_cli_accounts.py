"""`paynow accounts import` as an operator runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg2

from commands import paynow
from database import execute, server_folder, way_to
from paynow.resources import folder
from service import balance
from waiting import eventually

HEADER = "customer_id,currency,balance\n"


def write(folder: Path, lines: str) -> str:
    (folder / "accounts.csv").write_text(HEADER + lines, encoding="utf-8")
    return "accounts.csv"


def test_a_file_is_brought_in_and_summed_up(database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "accounts", "import", write(tmp_path, "c_1,USD,10\nc_1,EUR,0\n"))
    assert (ended.code, ended.out, ended.err) == (0, "2 created, 0 unchanged, 0 adjusted\n", "")
    assert balance(database, "c_1") == (1000, 0)
    ended = paynow(tmp_path, database, "accounts", "import", write(tmp_path, "c_1,USD,10\nc_2,USD,1\n"))
    assert (ended.code, ended.out) == (0, "1 created, 1 unchanged, 0 adjusted\n")
    adjusted = paynow(tmp_path, database, "accounts", "import", "--adjust", "--json", write(tmp_path, "c_1,USD,12\n"))
    assert adjusted.json() == {"dryRun": False, "created": 0, "unchanged": 0, "adjusted": 1}
    assert balance(database, "c_1") == (1200, 0)


def test_a_dry_run_says_what_would_be_and_changes_nothing(database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "accounts", "import", "--dry-run", write(tmp_path, "c_1,USD,10\n"))
    assert (ended.code, ended.out) == (0, "1 would be created, 0 unchanged, 0 adjusted\n")
    assert execute(database, "select count(*) from customers") == [(0,)]


def test_every_wrong_line_is_named_with_its_file_and_nothing_is_brought_in(database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "accounts", "import", write(tmp_path, "c_1,USD,10\nc 2,USD,1\nc_3,USD,0.001\n"))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        "accounts.csv:3: customer_id: expected 1 to 64 of the characters A-Z a-z 0-9 _ . : -",
        "accounts.csv:4: balance: expected at most 2 decimals in USD",
        "paynow: nothing was brought in: the file has faults, 2 in all",
    ]
    assert execute(database, "select count(*) from accounts") == [(0,)]


def test_of_many_faults_twenty_are_shown_and_all_counted(database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "accounts", "import", write(tmp_path, "c_1,USD,x\n" * 70))
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 21
    assert ended.err.splitlines()[-1] == "paynow: nothing was brought in: the file has faults, 70 in all, 50 not shown"


def test_an_account_that_stands_otherwise_is_named_with_what_to_do(database: str, tmp_path: Path) -> None:
    paynow(tmp_path, database, "accounts", "import", write(tmp_path, "c_1,USD,10\n"))
    ended = paynow(tmp_path, database, "accounts", "import", write(tmp_path, "c_1,USD,11\n"))
    assert ended.code == 1
    assert "accounts.csv:2: the account was opened with 10.00 USD: --adjust" in ended.err


def test_a_file_that_is_not_there_is_wrong_use(database: str, tmp_path: Path) -> None:
    assert paynow(tmp_path, database, "accounts", "import", "missing.csv").code == 2


def test_the_shipped_accounts_come_into_an_embedded_database_and_stay(tmp_path: Path) -> None:
    shipped = str(folder("config") / "demo_accounts.csv")
    with server_folder() as place:
        first = paynow(place, None, "accounts", "import", "--json", shipped).json()
        again = paynow(place, None, "accounts", "import", "--json", shipped).json()
        assert (first["created"], again["created"]) == (again["unchanged"], 0)
        assert paynow(place, None, "audit").code == 0


def test_ctrl_c_ends_it_at_once_with_everything_undone(database: str, tmp_path: Path) -> None:
    file = write(tmp_path, "c_1,USD,10\n")
    paynow(tmp_path, database, "accounts", "import", file)
    write(tmp_path, "c_0,USD,1\nc_1,USD,11\n")
    with closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
        cursor.execute("select from customers where customer_id = 'c_1' for update")
        command = [sys.executable, "-m", "paynow", "accounts", "import", "--adjust", file]
        process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **way_to(database)}, stderr=subprocess.PIPE, text=True)
        waiting = "select pid from pg_stat_activity where application_name = 'paynow accounts import' and wait_event_type = 'Lock'"
        eventually(lambda: execute(database, waiting))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (130, "paynow: interrupted\n")
    assert execute(database, "select customer_id, available from accounts") == [("c_1", 1000)]
