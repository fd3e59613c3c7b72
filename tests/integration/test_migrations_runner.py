"""Migrations: in order, each once, by one runner at a time, and nothing that was changed behind their back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from database import execute
from holding import python_path
from paynow import resources
from paynow.store import migrations
from paynow.store.migration_folder import MigrationRefused
from paynow.store.migrations import migrate, pending, status
from waiting import eventually

MIGRATE = "import sys; from pathlib import Path; from paynow.store.migrations import migrate; print(*migrate(sys.argv[1], folder=Path(sys.argv[2])))"
WAITS_FOR_A_LOCK = "select 1 from pg_stat_activity where application_name = 'paynow migrate' and wait_event_type = 'Lock'"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "functions").mkdir()
    write(tmp_path, "0001_things", "create table things (number int primary key);\ninsert into things values (1);")
    write(tmp_path, "0002_more_things", "insert into things values (2);")
    return tmp_path


@pytest.fixture
def runners() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for runner in started:
        runner.kill()
        runner.communicate()


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / "migrations" / f"{name}.sql"
    path.write_text(text)
    return path


def write_function(folder: Path, name: str, text: str) -> Path:
    path = folder / "functions" / f"{name}.sql"
    path.write_text(text)
    return path


def answering(number: int) -> str:
    return f"create or replace function answer() returns int language sql as 'select {number}';"


def run(runners: list[subprocess.Popen[str]], dsn: str, folder: Path) -> subprocess.Popen[str]:
    runner = subprocess.Popen(
        [sys.executable, "-c", MIGRATE, dsn, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    runners.append(runner)
    return runner


def things(dsn: str) -> list[int]:
    return [row[0] for row in execute(dsn, "select number from things order by number")]


def ledger(dsn: str) -> list[str]:
    return [row[0] for row in execute(dsn, "select name from schema_migrations order by version")]


def tables(dsn: str) -> list[str]:
    return [row[0] for row in execute(dsn, "select tablename::text from pg_tables where schemaname = 'public' order by 1")]


# ---------------------------------------------------------------- in order, each once


def test_an_empty_database_gets_all_of_them_in_order_and_a_second_run_finds_nothing_to_do(empty_database: str, folder: Path) -> None:
    reported: list[str] = []
    assert pending(empty_database, folder) == ["0001_things", "0002_more_things", "functions"]
    assert migrate(empty_database, folder=folder, report=reported.append) == ["0001_things", "0002_more_things", "functions"]
    assert reported == ["0001_things", "0002_more_things", "functions"]
    assert things(empty_database) == [1, 2]
    assert pending(empty_database, folder) == []
    assert migrate(empty_database, folder=folder, report=reported.append) == []
    assert len(reported) == 3


def test_a_new_migration_is_applied_alone(empty_database: str, folder: Path) -> None:
    migrate(empty_database, folder=folder)
    write(folder, "0003_third", "insert into things values (3)")
    assert migrate(empty_database, folder=folder) == ["0003_third"]
    assert things(empty_database) == [1, 2, 3]


def test_the_status_says_what_was_applied_when_and_changes_nothing(empty_database: str, folder: Path) -> None:
    assert [(state.version, state.name, state.applied_at) for state in status(empty_database, folder)] == [
        (1, "0001_things", None),
        (2, "0002_more_things", None),
        (0, "functions", None),
    ]
    assert tables(empty_database) == []
    migrate(empty_database, folder=folder)
    assert all(state.applied_at is not None for state in status(empty_database, folder))


def test_a_percent_sign_and_a_dollar_quote_are_only_text(empty_database: str, folder: Path) -> None:
    write(folder, "0003_text", "do $$ begin insert into things select 10 % 4 + 40 where 'a' like '%a%s'; end $$; insert into things values (9 % 5);")
    migrate(empty_database, folder=folder)
    assert things(empty_database) == [1, 2, 4]


def test_paynows_own_are_applied_whole_and_once(database: str) -> None:
    assert pending(database) == []
    assert migrate(database) == []
    assert migrate(database, folder=resources.folder("sql")) == []


# ---------------------------------------------------------------- many runners, dead runners


def test_of_many_programs_at_once_each_migration_is_applied_by_one(empty_database: str, folder: Path, runners: list[subprocess.Popen[str]]) -> None:
    write(folder, "0003_slow", "select pg_sleep(0.5); insert into things values (3)")
    write_function(folder, "answer", answering(1))
    outputs = [(program.communicate(), program.returncode) for program in [run(runners, empty_database, folder) for _ in range(4)]]
    assert [code for _, code in outputs] == [0, 0, 0, 0], outputs
    done = [name for (out, _), _ in outputs for name in out.split()]
    assert sorted(done) == ["0001_things", "0002_more_things", "0003_slow", "functions"]
    assert things(empty_database) == [1, 2, 3]


def test_a_program_killed_in_the_middle_leaves_no_lock_and_nothing_half_done(
    empty_database: str, folder: Path, runners: list[subprocess.Popen[str]]
) -> None:
    slow = write(folder, "0003_slow", "insert into things values (3); select pg_sleep(60);")
    runner = run(runners, empty_database, folder)
    sleeping = "select 1 from pg_stat_activity where application_name = 'paynow migrate' and query like '%pg_sleep(60)%' and state = 'active'"
    eventually(lambda: execute(empty_database, sleeping))
    runner.send_signal(signal.SIGKILL)
    slow.write_text("insert into things values (3);")
    assert migrate(empty_database, folder=folder) == ["0003_slow", "functions"]
    assert things(empty_database) == [1, 2, 3]


def test_a_runner_that_waits_too_long_for_another_is_told(empty_database: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "OTHER_RUNNER_TIMEOUT", "100ms")
    with closing(psycopg2.connect(empty_database)) as other, other.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(%s)", (migrations.ADVISORY_LOCK,))
        with pytest.raises(MigrationRefused, match="Another program"):
            migrate(empty_database, folder=folder)
    assert tables(empty_database) == []


def test_a_table_that_a_service_keeps_locked_is_not_waited_for_long(empty_database: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(empty_database, folder=folder)
    write(folder, "0003_column", "alter table things add column colour text")
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(migrations, "LOCK_TRIES", 3)
    with closing(psycopg2.connect(empty_database)) as service, service.cursor() as cursor:
        cursor.execute("select * from things")
        with pytest.raises(MigrationRefused, match="0003_column tried 3 times"):
            migrate(empty_database, folder=folder)
    assert migrate(empty_database, folder=folder) == ["0003_column"]


def test_a_migration_that_waits_for_a_reader_lets_the_payments_behind_it_through(empty_database: str, folder: Path) -> None:
    """An audit or a dump reads for minutes: who waits for it in one go would hold up everybody else who comes."""
    migrate(empty_database, folder=folder)
    write(folder, "0003_column", "alter table things add column colour text")
    as_a_service = psycopg2.extensions.make_dsn(empty_database, options="-c lock_timeout=500")
    with ThreadPoolExecutor(1) as thread:
        with closing(psycopg2.connect(empty_database)) as reader, reader.cursor() as cursor:
            cursor.execute("select * from things")
            migrating = thread.submit(migrate, empty_database, folder=folder)
            for number in range(5):
                eventually(lambda: execute(empty_database, WAITS_FOR_A_LOCK))
                execute(as_a_service, "insert into things values (%s)", 100 + number)
            assert not migrating.done()
        assert migrating.result(timeout=30) == ["0003_column"]
    assert things(empty_database)[2:] == [100, 101, 102, 103, 104]


def test_an_index_that_is_built_concurrently_waits_for_old_transactions_as_long_as_it_takes(
    empty_database: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(migrations, "LOCK_TRIES", 1)
    migrate(empty_database, folder=folder)
    write(folder, "0003_index", "-- no-transaction\ncreate index concurrently things_index on things (number)")
    with ThreadPoolExecutor(1) as thread:
        with closing(psycopg2.connect(empty_database)) as writer, writer.cursor() as cursor:
            cursor.execute("insert into things values (7)")
            migrating = thread.submit(migrate, empty_database, folder=folder)
            eventually(lambda: execute(empty_database, f"{WAITS_FOR_A_LOCK} and now() - query_start > interval '200 ms'"))
            writer.commit()
        assert migrating.result(timeout=30) == ["0003_index"]


def test_the_roles_own_time_limit_does_not_end_a_long_migration(empty_database: str, folder: Path) -> None:
    write(folder, "0003_slow", "select pg_sleep(0.2)")
    limited = psycopg2.extensions.make_dsn(empty_database, options="-c statement_timeout=100")
    assert "0003_slow" in migrate(limited, folder=folder)


# ---------------------------------------------------------------- refused


def test_a_failing_migration_leaves_nothing_of_its_own_and_what_came_before_stays(empty_database: str, folder: Path) -> None:
    wrong = write(folder, "0003_wrong", "insert into things values (3);\n\ninsert into nothing values (3);")
    with pytest.raises(MigrationRefused, match=r'0003_wrong, line 3: relation "nothing" does not exist'):
        migrate(empty_database, folder=folder)
    assert things(empty_database) == [1, 2]
    assert ledger(empty_database) == ["0001_things", "0002_more_things"]
    wrong.write_text("insert into things values (3);")
    assert migrate(empty_database, folder=folder) == ["0003_wrong", "functions"]


def test_an_applied_file_that_was_edited_is_refused(empty_database: str, folder: Path) -> None:
    migrate(empty_database, folder=folder)
    write(folder, "0002_more_things", "insert into things values (22);")
    write(folder, "0003_third", "insert into things values (3)")
    for attempt in (lambda: migrate(empty_database, folder=folder), lambda: status(empty_database, folder)):
        with pytest.raises(MigrationRefused, match="0002_more_things was edited"):
            attempt()
    assert things(empty_database) == [1, 2]


def test_a_database_newer_than_the_code_is_refused(empty_database: str, folder: Path) -> None:
    newer = write(folder, "0003_third", "insert into things values (3)")
    migrate(empty_database, folder=folder)
    newer.unlink()
    write_function(folder, "answer", answering(1))
    with pytest.raises(MigrationRefused, match="newer than this PayNow: it has 0003_third"):
        migrate(empty_database, folder=folder)
    assert execute(empty_database, "select count(*) from pg_proc where proname = 'answer'") == [(0,)]


def test_an_applied_file_that_is_missing_is_refused(empty_database: str, folder: Path) -> None:
    migrate(empty_database, folder=folder)
    (folder / "migrations" / "0001_things.sql").unlink()
    with pytest.raises(MigrationRefused, match="0001_things was applied to the database but its file is missing"):
        migrate(empty_database, folder=folder)


def test_a_file_that_comes_late_under_an_early_number_is_refused(empty_database: str, folder: Path) -> None:
    write(folder, "0005_fifth", "insert into things values (5)")
    migrate(empty_database, folder=folder)
    write(folder, "0004_late", "insert into things values (4)")
    with pytest.raises(MigrationRefused, match="0004_late comes before 0005_fifth"):
        migrate(empty_database, folder=folder)


def test_a_database_that_cannot_be_reached_is_said_without_the_driver(folder: Path) -> None:
    with pytest.raises(MigrationRefused, match="cannot be migrated"):
        migrate("host=/nonexistent dbname=paynow", folder=folder)


def test_a_connection_lost_in_the_middle_is_a_refusal_too(empty_database: str, folder: Path) -> None:
    write(folder, "0003_suicide", "insert into things values (3); select pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(MigrationRefused, match="0003_suicide"):
        migrate(empty_database, folder=folder)
    assert things(empty_database) == [1, 2]


# ---------------------------------------------------------------- outside a transaction


def test_a_file_that_asks_for_it_runs_outside_a_transaction(empty_database: str, folder: Path) -> None:
    drop, create = "drop index concurrently if exists things_again;", "create index concurrently things_again on things (number);"
    write(folder, "0003_index", f"-- no-transaction\n-- Why: the table is large.\n{drop}\n-- then\n{create}\n")
    assert "0003_index" in migrate(empty_database, folder=folder)
    assert execute(empty_database, "select indisvalid from pg_index where indexrelid = 'things_again'::regclass") == [(True,)]
    assert ledger(empty_database)[-1] == "0003_index"


def test_without_asking_it_runs_inside_one(empty_database: str, folder: Path) -> None:
    write(folder, "0003_index", "create index concurrently things_again on things (number);")
    with pytest.raises(MigrationRefused, match="cannot run inside a transaction"):
        migrate(empty_database, folder=folder)


def test_a_failure_outside_a_transaction_is_not_recorded_and_can_be_run_again(empty_database: str, folder: Path) -> None:
    wrong = write(folder, "0003_two", "-- no-transaction\ninsert into things values (3) on conflict do nothing\n-- then\nselect 1 / 0\n")
    with pytest.raises(MigrationRefused, match="division by zero"):
        migrate(empty_database, folder=folder)
    assert things(empty_database) == [1, 2, 3]
    assert "0003_two" not in ledger(empty_database)
    wrong.write_text(wrong.read_text().replace("/ 0", "/ 1"))
    assert "0003_two" in migrate(empty_database, folder=folder)


# ---------------------------------------------------------------- functions


def test_functions_come_after_the_migrations_and_again_whenever_one_changes(empty_database: str, folder: Path) -> None:
    write_function(folder, "answer", answering(1))
    assert migrate(empty_database, folder=folder)[-1] == "functions"
    assert execute(empty_database, "select answer()") == [(1,)]
    assert migrate(empty_database, folder=folder) == []
    write_function(folder, "answer", answering(2))
    assert pending(empty_database, folder) == ["functions"]
    assert migrate(empty_database, folder=folder) == ["functions"]
    assert execute(empty_database, "select answer()") == [(2,)]


def test_an_older_paynow_that_starts_again_brings_its_own_functions_back(empty_database: str, folder: Path) -> None:
    for number in (1, 2, 1):
        write_function(folder, "answer", answering(number))
        assert "functions" in migrate(empty_database, folder=folder)
        assert execute(empty_database, "select answer()") == [(number,)]


def test_functions_change_together_or_not_at_all(empty_database: str, folder: Path) -> None:
    write_function(folder, "10_answer", answering(1))
    migrate(empty_database, folder=folder)
    write_function(folder, "10_answer", answering(2))
    write_function(folder, "20_wrong", "create or replace function wrong() returns int language sql as\n'select 1 from nothing';")
    with pytest.raises(MigrationRefused, match=r'functions/20_wrong.*"nothing" does not exist'):
        migrate(empty_database, folder=folder)
    assert execute(empty_database, "select answer()") == [(1,)]
    assert pending(empty_database, folder) == ["functions"]
