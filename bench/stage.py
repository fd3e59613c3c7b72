"""The stage of a run: a private PostgreSQL as PayNow embeds it, a database for each rival, a folder for files and logs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, make_dsn, parse_dsn

from paynow.store import embedded
from paynow.store.embedded import EmbeddedServer

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".bench"
"""Where folders of runs are made; the filled database stays here."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A running cluster, and a folder whose files are the run's own."""

    server: EmbeddedServer
    folder: Path

    @property
    def postmaster(self) -> int:
        """The process id of PostgreSQL's parent."""
        return int((self.server.data_dir / "postmaster.pid").read_text().split()[0])

    def dsn(self, database: str) -> str:
        """libpq keywords for one of the cluster's databases."""
        return make_dsn(self.server.dsn, dbname=database)

    def url(self, database: str) -> str:
        """The same as a URL, which is all that some drivers take."""
        told = parse_dsn(self.server.dsn)
        return f"postgresql://{told['user']}@/{database}?host={told['host']}&port={told['port']}"

    def make_database(self, name: str) -> str:
        """An empty database under that name, in place of one that is there."""
        self.run("postgres", f'drop database if exists "{name}" with (force)')
        self.run("postgres", f'create database "{name}"')
        return self.dsn(name)

    def has_database(self, name: str) -> bool:
        """Whether the cluster has a database of that name."""
        return bool(self.run("postgres", "select 1 from pg_database where datname = %s", name))

    def run(self, database: str, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """One statement outside any transaction block, and its rows."""
        with closing(psycopg2.connect(self.dsn(database))) as connection, connection.cursor() as cursor:
            connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def number(self, database: str, statement: str, *parameters: Any) -> int:
        """The one number that a statement gives."""
        return int(self.run(database, statement, *parameters)[0][0])


@contextmanager
def private_stage() -> Iterator[Stage]:
    """A stage that nobody else uses and that leaves nothing behind."""
    with run_folder() as folder, embedded.start(folder / "cluster") as server:
        try:
            yield Stage(server, folder)
        finally:
            server.stop()
            shutil.rmtree(server.data_dir.parent, ignore_errors=True)


@contextmanager
def lasting_stage(settings: Mapping[str, str] | None = None) -> Iterator[Stage]:
    """A stage whose databases stay for the next run. Nobody may be using it: a server that runs keeps its own settings."""
    with run_folder() as folder, embedded.start(HOME / "filled", settings=settings) as server:
        yield Stage(server, folder)


@contextmanager
def run_folder() -> Iterator[Path]:
    """A folder for one run. Everyone may enter it, since PostgreSQL may run as somebody else; what must be private is so itself."""
    HOME.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=HOME))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
