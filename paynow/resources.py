"""Where the files lie that ship with PayNow beside its code: the SQL, the default configuration and the built-in plugins.

In a checkout they are top-level folders, where people look for them; in a wheel they lie inside the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

PACKAGE = Path(__file__).resolve().parent


def folder(name: Literal["sql", "config", "plugins"], *, package: Path = PACKAGE) -> Path:
    """The folder of that name: inside the package if it is there (a wheel), else beside it (a checkout).

    Raises `FileNotFoundError` if it is in neither place: the installation is broken.
    """
    for place in (package / name, package.parent / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"the folder {name}/ is missing both inside and beside {package}: PayNow is not installed whole")
