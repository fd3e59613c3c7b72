"""The SQL that a database must have, as it stands in a folder: migrations in their order, and the functions. Knows files, no database."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from paynow.errors import PayNowError


class MigrationRefused(PayNowError):
    """The database was not brought up to date; what had been applied before the refusal stays applied."""


@dataclass(frozen=True, slots=True)
class SqlFile:
    """`name` is the file's without its ending."""

    name: str
    text: str
    sha256: str

    @property
    def version(self) -> int:
        """The number that a migration's name begins with."""
        return int(self.name[:4])


@dataclass(frozen=True, slots=True)
class SqlFolder:
    """Migrations by version, functions by name."""

    migrations: tuple[SqlFile, ...]
    functions: tuple[SqlFile, ...]

    @property
    def functions_sha256(self) -> str:
        """One hash over the names and texts of all functions."""
        return hashlib.sha256("\n".join(f"{one.name} {one.sha256}" for one in self.functions).encode()).hexdigest()


def read_folder(folder: Path) -> SqlFolder:
    """What `folder` holds in `migrations/` and `functions/`.

    Raises `MigrationRefused` for a migration whose name is not understood or whose number is another's: neither is passed over.
    """
    migrations: dict[int, SqlFile] = {}
    for migration in _files(folder / "migrations"):
        if not re.fullmatch(r"\d{4}_[a-z0-9_]+", migration.name):
            raise MigrationRefused(f"{migration.name}.sql is no name of a migration: it must be like 0001_what_it_does.sql.")
        other = migrations.setdefault(migration.version, migration)
        if other is not migration:
            raise MigrationRefused(f"{migration.name}.sql and {other.name}.sql have the same number.")
    return SqlFolder(tuple(migrations.values()), tuple(_files(folder / "functions")))


def _files(folder: Path) -> list[SqlFile]:
    contents = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.sql"))}
    return [SqlFile(name, content.decode(), hashlib.sha256(content).hexdigest()) for name, content in contents.items()]
