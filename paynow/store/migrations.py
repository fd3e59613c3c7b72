"""Brings a database to what this PayNow needs: the migrations in order, each once, then the functions whenever they changed.

`migrations/NNNN_name.sql` are serial and forward only. Each is recorded in `schema_migrations` with its hash, in its own transaction; one that
was edited after it was applied, or that the code does not know, is refused. A file whose first line is `-- no-transaction` runs outside one,
for `create index concurrently` and its like: its statements stand between lines `-- then` and must bear being run again, since a crash
between the last of them and the record repeats them.

`functions/*.sql` hold nothing but `create or replace function`. All are applied again, in the order of their names and in one transaction, when
their joint hash is not the recorded one. An older process goes on calling them meanwhile, and one that starts again brings its own back:
a function keeps its arguments and what they mean for as long as a released PayNow calls it; another signature is another function.

One runner at a time: an advisory lock of the session, which the server drops with the connection. So no transaction pooler in between.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import psycopg2
import psycopg2.errors
import psycopg2.extensions as pg

from paynow import resources
from paynow.store.migration_folder import MigrationRefused, SqlFile, SqlFolder, read_folder

ADVISORY_LOCK = 0x7061_796E_6F77  # "paynow"
SERVER_VERSION_MIN = 15
OTHER_RUNNER_TIMEOUT = "10min"
LOCK_TIMEOUT = "250ms"
"""How long a try waits for a lock. Whatever comes after it waits with it, and a service sends a payment away after a third of its
`database.statement_timeout_ms`, 500 ms as it is shipped."""
LOCK_TRIES = 20
LOCK_PAUSE_S = 0.25
"""Between two tries, so that those who waited get through."""
UNHURRIED_TIMEOUT = "10min"
CONCURRENTLY = " concurrently "
NO_TRANSACTION = "-- no-transaction"
FUNCTIONS = "functions"
SESSION = """
set client_min_messages = warning;
set statement_timeout = 0;
set idle_in_transaction_session_timeout = 0;
set client_connection_check_interval = '2s'
"""
"""The last line frees the lock of a runner that was killed inside a long statement."""
LEDGER = """
create table if not exists schema_migrations (
    version int primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default clock_timestamp()
);
create table if not exists schema_functions (
    applied_at timestamptz primary key default clock_timestamp(),
    sha256 text not null
)
"""


@dataclass(frozen=True, slots=True)
class MigrationState:
    """A migration, or the functions as a whole (version 0), and when it was applied: None if that is still to be done."""

    version: int
    name: str
    applied_at: datetime | None


@dataclass(frozen=True, slots=True)
class Applied:
    """A line of the ledger."""

    name: str
    sha256: str
    applied_at: datetime


def status(dsn: str, folder: Path | None = None) -> list[MigrationState]:
    """Every migration of the folder (of PayNow's own `sql/` if none is given) and the functions; changes nothing.

    Raises `MigrationRefused` as `migrate` does.
    """
    wanted = read_folder(folder or resources.folder("sql"))
    with _session(dsn) as cursor:
        ledger = _read_ledger(cursor)
        _check(wanted, ledger)
        functions_at = _functions_applied_at(cursor, wanted)
    states = [MigrationState(one.version, one.name, ledger[one.version].applied_at if one.version in ledger else None) for one in wanted.migrations]
    return [*states, MigrationState(0, FUNCTIONS, functions_at)]


def pending(dsn: str, folder: Path | None = None) -> list[str]:
    """The names of what `migrate` would apply, in its order."""
    return [state.name for state in status(dsn, folder) if state.applied_at is None]


def migrate(dsn: str, *, folder: Path | None = None, report: Callable[[str], None] = lambda name: None) -> list[str]:
    """Applies what is pending and returns the names; `report` is told each as soon as it is applied.

    Raises `MigrationRefused` if the database cannot be reached or is newer than the folder, an applied file was edited, a statement fails,
    or a lock that a running service holds is not given up in time. Running it again goes on where it stopped.
    """
    wanted = read_folder(folder or resources.folder("sql"))
    done = []
    with _session(dsn) as cursor:
        _become_the_runner(cursor)
        cursor.execute(LEDGER)
        ledger = _read_ledger(cursor)
        _check(wanted, ledger)
        for migration in wanted.migrations:
            if migration.version not in ledger:
                _apply(cursor, migration)
                report(migration.name)
                done.append(migration.name)
        if _functions_applied_at(cursor, wanted) is None:
            _patiently(FUNCTIONS, partial(_apply_functions, cursor, wanted))
            report(FUNCTIONS)
            done.append(FUNCTIONS)
    return done


@contextmanager
def _session(dsn: str) -> Iterator[pg.cursor]:
    """A connection that commits each statement, with no time limit on them. All that the driver raises comes out as `MigrationRefused`."""
    try:
        with closing(psycopg2.connect(dsn, connect_timeout=10, application_name="paynow migrate")) as connection:
            connection.autocommit = True
            if connection.server_version < SERVER_VERSION_MIN * 10_000:
                raise MigrationRefused(f"PostgreSQL {SERVER_VERSION_MIN} or newer is needed.")
            with connection.cursor() as cursor:
                cursor.execute(SESSION)
                yield cursor
    except psycopg2.Error as error:
        raise MigrationRefused(f"The database cannot be migrated: {error.diag.message_primary or error}".strip()) from error


def _become_the_runner(cursor: pg.cursor) -> None:
    cursor.execute(f"set lock_timeout = '{OTHER_RUNNER_TIMEOUT}'")
    try:
        cursor.execute("select pg_advisory_lock(%s)", (ADVISORY_LOCK,))
    except psycopg2.errors.LockNotAvailable as error:
        raise MigrationRefused(f"Another program has been migrating this database for {OTHER_RUNNER_TIMEOUT}.") from error
    cursor.execute(f"set lock_timeout = '{LOCK_TIMEOUT}'")


def _read_ledger(cursor: pg.cursor) -> dict[int, Applied]:
    """What was applied, by version; nothing if the database has no ledger yet."""
    if not _table_exists(cursor, "schema_migrations"):
        return {}
    cursor.execute("select version, name, sha256, applied_at from schema_migrations order by version")
    return {version: Applied(*rest) for version, *rest in cursor.fetchall()}


def _check(wanted: SqlFolder, ledger: dict[int, Applied]) -> None:
    """Raises `MigrationRefused` unless what was applied is, unchanged, the beginning of what is wanted."""
    known = {migration.version: migration for migration in wanted.migrations}
    newest = max(ledger, default=0)
    if newest > max(known, default=0):
        raise MigrationRefused(
            f"The database is newer than this PayNow: it has {ledger[newest].name}. Use the PayNow that applied it, or a newer one."
        )
    for version, applied in ledger.items():
        if version not in known:
            raise MigrationRefused(f"{applied.name} was applied to the database but its file is missing.")
        if known[version].sha256 != applied.sha256:
            raise MigrationRefused(f"{known[version].name} was edited after it was applied: restore it and put the change into a new migration.")
    for version, migration in known.items():
        if version not in ledger and version < newest:
            raise MigrationRefused(f"{migration.name} comes before {ledger[newest].name}, which is applied: give it a number after it.")


def _apply(cursor: pg.cursor, migration: SqlFile) -> None:
    if migration.text.split("\n", 1)[0].strip() == NO_TRANSACTION:
        for part in re.split(r"^-- then\s*$", migration.text, flags=re.MULTILINE):
            if CONCURRENTLY in part:
                _execute_unhurried(cursor, migration.name, part)
            else:
                _patiently(migration.name, partial(_execute, cursor, migration.name, part))
        _record(cursor, migration)
    else:
        _patiently(migration.name, partial(_apply_whole, cursor, migration))


def _execute_unhurried(cursor: pg.cursor, name: str, part: str) -> None:
    """Nobody waits behind an index that is built concurrently, and one whose building was given up would have to be dropped first."""
    cursor.execute(f"set lock_timeout = '{UNHURRIED_TIMEOUT}'")
    try:
        _execute(cursor, name, part)
    except psycopg2.errors.LockNotAvailable as error:
        raise MigrationRefused(f"{name} waited {UNHURRIED_TIMEOUT} for transactions to end that began before it: try again.") from error
    finally:
        if not cursor.connection.closed:
            cursor.execute(f"set lock_timeout = '{LOCK_TIMEOUT}'")


def _apply_whole(cursor: pg.cursor, migration: SqlFile) -> None:
    with _transaction(cursor):
        _execute(cursor, migration.name, migration.text)
        _record(cursor, migration)


def _patiently(name: str, work: Callable[[], None]) -> None:
    """Tries again and again where a lock is not to be had: waiting for it in one go would hold up all payments behind it. Each try is undone."""
    for tries_left in reversed(range(LOCK_TRIES)):
        try:
            work()
            return
        except psycopg2.errors.LockNotAvailable as error:
            if not tries_left:
                raise MigrationRefused(f"{name} tried {LOCK_TRIES} times for a lock that somebody else holds: try again.") from error
        time.sleep(LOCK_PAUSE_S)


def _record(cursor: pg.cursor, migration: SqlFile) -> None:
    row = (migration.version, migration.name, migration.sha256)
    cursor.execute("insert into schema_migrations (version, name, sha256) values (%s, %s, %s)", row)


def _apply_functions(cursor: pg.cursor, wanted: SqlFolder) -> None:
    with _transaction(cursor):
        for file in wanted.functions:
            _execute(cursor, f"{FUNCTIONS}/{file.name}", file.text)
        cursor.execute("insert into schema_functions (sha256) values (%s)", (wanted.functions_sha256,))


def _functions_applied_at(cursor: pg.cursor, wanted: SqlFolder) -> datetime | None:
    """When the wanted functions were applied, if they were the last."""
    if not _table_exists(cursor, "schema_functions"):
        return None
    cursor.execute("select sha256, applied_at from schema_functions order by applied_at desc limit 1")
    row = cursor.fetchone()
    return row[1] if row and row[0] == wanted.functions_sha256 else None


def _table_exists(cursor: pg.cursor, name: str) -> bool:
    cursor.execute("select to_regclass(%s) is not null", (name,))
    return cursor.fetchone()[0]


@contextmanager
def _transaction(cursor: pg.cursor) -> Iterator[None]:
    cursor.execute("begin isolation level read committed")
    try:
        yield
    except BaseException:
        if not cursor.connection.closed:
            cursor.execute("rollback")
        raise
    cursor.execute("commit")


def _execute(cursor: pg.cursor, name: str, text: str) -> None:
    try:
        cursor.execute(text)
    except psycopg2.errors.LockNotAvailable:
        raise
    except psycopg2.Error as error:
        at = error.diag.statement_position
        line = f", line {text.count(chr(10), 0, int(at) - 1) + 1}" if at else ""
        raise MigrationRefused(f"{name}{line}: {error.diag.message_primary or error}".strip()) from error
