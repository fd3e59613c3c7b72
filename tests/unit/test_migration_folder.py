"""A folder of SQL is read whole or refused: no file is passed over in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from paynow import resources
from paynow.store.migration_folder import MigrationRefused, read_folder


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / f"{name}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"select '{path.stem}';")
    return folder


def test_migrations_come_by_number_and_functions_by_name(tmp_path: Path) -> None:
    found = read_folder(write(tmp_path, "migrations/0010_ten", "migrations/0002_two", "functions/20_settle", "functions/10_claim"))
    assert [(one.version, one.name) for one in found.migrations] == [(2, "0002_two"), (10, "0010_ten")]
    assert [one.name for one in found.functions] == ["10_claim", "20_settle"]


@pytest.mark.parametrize("name", ["2_short", "00003_long", "0003-dash", "0003", "0003_Upper", "notes"])
def test_a_name_that_is_not_understood_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MigrationRefused, match="no name of a migration"):
        read_folder(write(tmp_path, f"migrations/{name}"))


def test_two_files_with_one_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationRefused, match="same number"):
        read_folder(write(tmp_path, "migrations/0001_one", "migrations/0001_other"))


def test_the_functions_hash_knows_their_names_and_texts(tmp_path: Path) -> None:
    before = read_folder(write(tmp_path, "functions/a", "functions/b")).functions_sha256
    assert read_folder(tmp_path).functions_sha256 == before
    (tmp_path / "functions" / "b.sql").rename(tmp_path / "functions" / "c.sql")
    renamed = read_folder(tmp_path).functions_sha256
    (tmp_path / "functions" / "c.sql").write_text("select 'other';")
    assert len({before, renamed, read_folder(tmp_path).functions_sha256}) == 3


def test_paynows_own_numbers_have_no_gaps() -> None:
    versions = [migration.version for migration in read_folder(resources.folder("sql")).migrations]
    assert versions == list(range(1, len(versions) + 1))
