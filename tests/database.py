"""Databases for tests: one server for the session, a fresh copy of the migrated schema for each test, and servers of a test's own.

`PAYNOW_TEST_POSTGRES` names the folder of another PostgreSQL's programs to run all of it on. With `PAYNOW_TEST_POOLER=pgbouncer` every
`paynow` that a test starts reaches its database through a PgBouncer in transaction mode; the test itself looks past it.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from paynow import resources
from paynow.store import embedded, file_lock, migrations
from servers.pgbouncer import Pgbouncer
from waiting import eventually

BIN_DIR = Path(os.environ["PAYNOW_TEST_POSTGRES"]) if os.environ.get("PAYNOW_TEST_POSTGRES") else None
FAST = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "4GB"}
"""Data survive every death of processes, but not of the machine, which no test asks for."""

POOLER = os.environ.get("PAYNOW_TEST_POOLER")
_POOLERS: dict[str, tuple[ExitStack, Pgbouncer]] = {}
"""Those of this session, each by the folder of its server's socket."""


def way_to(dsn: str) -> dict[str, str]:
    """The environment in which `paynow` finds a database of a test's server; any other DSN is handed on as it is."""
    if not POOLER or "/paynow-test-" not in dsn:
        return {"DATABASE_URL": dsn}
    assert POOLER == "pgbouncer", f"PAYNOW_TEST_POOLER={POOLER}, expected pgbouncer"
    host = parse_dsn(dsn)["host"]
    if host not in _POOLERS:
        with ExitStack() as stack:
            pooler = Pgbouncer(stack.enter_context(server_folder()), dsn)
            pooler.start()
            stack.callback(pooler.stop)
            _POOLERS[host] = stack.pop_all(), pooler
    return {"DATABASE_URL": _POOLERS[host][1].dsn(dsn), "DATABASE_DIRECT_URL": dsn, "PAYNOW_DATABASE__POOLER": "transaction"}


@pytest.fixture(scope="session")
def pgbouncer(postgres_server: embedded.EmbeddedServer) -> Iterator[Pgbouncer]:
    """A PgBouncer in transaction mode in front of the session's server."""
    with server_folder() as folder:
        pooler = Pgbouncer(folder, postgres_server.dsn)
        pooler.start()
        yield pooler
        pooler.stop()


@pytest.fixture(scope="session", autouse=True)
def poolers_stopped() -> Iterator[None]:
    """Whatever `way_to` has started ends with the session."""
    yield
    while _POOLERS:
        _POOLERS.popitem()[1][0].close()


@contextmanager
def server_folder() -> Iterator[Path]:
    """A short path that the user who runs PostgreSQL may enter, also when root runs the tests (pytest's own folders are closed to it)."""
    folder = Path(tempfile.mkdtemp(prefix="paynow-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


MADE_ONCE = (
    "shadow_rules, shadow_verdicts, shadow_policies, policy_verdicts, policy_proposals, policy_band_crossings, policy_band_outside, policy_slices, "
    "event_retries, event_progress, event_sinks, event_partitions, event_relays, event_log"
)
"""Tables of migrations that are one transaction each, for tests that run those before again, which may stop anywhere."""


ALL_DELIVERED = """select not exists (select from outbox)
    and not exists (select from event_progress g join event_partitions p using (partition) where g.place < p.last_place)"""
"""Whether every sink has every event, but for those that it gets later."""


def execute(dsn: str, statement: str, *parameters: object) -> list[tuple]:
    """Runs one statement by itself, in a connection of its own; its rows, if it has any."""
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []


def contents(dsn: str) -> dict[str, list[str]]:
    """All rows of all tables, as text: equal to what it was before if nothing has changed. What follows the payments is left out."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read")
        cursor.execute("select tablename from pg_tables where schemaname = 'public' and tablename !~ '^(payees|payee_|event_)'")
        tables = [name for (name,) in cursor.fetchall()]
        cursor.execute(" union all ".join(f"select '{table}', held::text from {table} held" for table in tables))
        found: dict[str, list[str]] = {table: [] for table in tables}
        for table, row in cursor.fetchall():
            found[table].append(row)
        return {table: sorted(rows) for table, rows in found.items()}


class OwnServer:
    """A server of one test: to be stopped hard and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: embedded.EmbeddedServer | None = None

    @property
    def dsn(self) -> str:
        """The same over restarts."""
        return self.server.dsn

    def start(self) -> None:
        """Starts it, or brings it back after `stop_immediate`."""
        before = self.server
        self.server = embedded.start(self.folder, settings=FAST, bin_dir=BIN_DIR)
        if before is not None:
            before.stop()

    def stop_immediate(self) -> None:
        """PostgreSQL's `immediate`: as a crash, without a checkpoint. Returns when all its processes are gone."""
        self.signal(signal.SIGQUIT)

    def kill(self) -> None:
        """`kill -9` of the server's first process. Returns when all its processes are gone."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        pid = int((self.server.data_dir / "postmaster.pid").read_text().split()[0])
        os.kill(pid, number)
        eventually(lambda: file_lock.is_free(self.server.place.running_lock), within_s=30)

    def close(self) -> None:
        if self.server is not None:
            self.server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[embedded.EmbeddedServer]:
    """The session's server: fast, not durable."""
    with server_folder() as folder, embedded.start(folder, settings=FAST, bin_dir=BIN_DIR) as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres_server: embedded.EmbeddedServer) -> str:
    """The name of a database with the schema, to be copied."""
    execute(postgres_server.dsn, "create database template_paynow")
    migrations.migrate(make_dsn(postgres_server.dsn, dbname="template_paynow"), folder=resources.folder("sql"))
    return "template_paynow"


@pytest.fixture(scope="session")
def database_numbers() -> Iterator[int]:
    return count(1)


@pytest.fixture
def database(postgres_server: embedded.EmbeddedServer, template_database: str, database_numbers: Iterator[int]) -> Iterator[str]:
    """The DSN of a fresh database with the schema and nothing in it."""
    yield from _fresh_database(postgres_server.dsn, f"test_{next(database_numbers)}", f"template {template_database}")


@pytest.fixture
def empty_database(postgres_server: embedded.EmbeddedServer, database_numbers: Iterator[int]) -> Iterator[str]:
    """The DSN of a fresh database without the schema."""
    yield from _fresh_database(postgres_server.dsn, f"test_{next(database_numbers)}", "")


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    """A running server that belongs to this test alone; it has an empty database `paynow`."""
    with server_folder() as folder:
        server = OwnServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.close()


def _fresh_database(admin_dsn: str, name: str, options: str) -> Iterator[str]:
    execute(admin_dsn, f"create database {name} {options}")
    yield make_dsn(admin_dsn, dbname=name)
    execute(admin_dsn, f"drop database {name} with (force)")
