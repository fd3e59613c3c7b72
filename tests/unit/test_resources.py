"""The folders that ship with PayNow are found in both places where they can lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from paynow import resources


def test_in_a_checkout_they_lie_beside_the_package(tmp_path: Path) -> None:
    package = tmp_path / "paynow"
    for folder in (package, tmp_path / "sql"):
        folder.mkdir()
    assert resources.folder("sql", package=package) == tmp_path / "sql"


def test_in_a_wheel_they_lie_inside_the_package_whatever_lies_beside_it(tmp_path: Path) -> None:
    package = tmp_path / "paynow"
    for folder in (package, package / "config", tmp_path / "config"):
        folder.mkdir()
    assert resources.folder("config", package=package) == package / "config"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="plugins/"):
        resources.folder("plugins", package=tmp_path / "paynow")


@pytest.mark.parametrize("name", ["sql", "config", "plugins"])
def test_this_installation_has_them_all(name: str) -> None:
    assert resources.folder(name).is_dir()
