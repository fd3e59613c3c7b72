"""A PgBouncer in transaction mode, with the very configuration that docs/scaling.md shows: only addresses and paths are others."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psycopg2.extensions import make_dsn, parse_dsn

from bench.processes import free_port

PROGRAM = "pgbouncer"
PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
USER, PASSWORD = "paynow", "the-password-of-the-bench"
START_WITHIN_S = 10.0
POLL_S = 0.01


def program() -> str | None:
    """Where it is. Debian keeps it where only root looks."""
    return shutil.which(PROGRAM, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


class Pgbouncer:
    """One process in front of one PostgreSQL, which listens on a socket in a folder. `start` brings it back on the same port after `stop`."""

    def __init__(self, folder: Path, server_dsn: str, **changes: str) -> None:
        """`folder` is its own, and may be entered by the user who runs the server. `changes` are lines of the configuration that are to be others."""
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._file = folder / "pgbouncer.ini"
        self._log = folder / "pgbouncer.log"
        users = folder / "userlist.txt"
        users.write_text(f'"{USER}" "{PASSWORD}"\n')
        ours = {"listen_addr": "127.0.0.1", "listen_port": str(self._port), "auth_file": str(users)}
        self._file.write_text(configuration(server_dsn, {**ours, **changes}))

    @property
    def pid(self) -> int:
        """Its process id, while it runs."""
        assert self._process is not None
        return self._process.pid

    def dsn(self, server_dsn: str) -> str:
        """The way through it to a database of its server."""
        return make_dsn(host="127.0.0.1", port=self._port, user=USER, password=PASSWORD, dbname=parse_dsn(server_dsn)["dbname"])

    def start(self) -> None:
        """Returns when it listens. Raises `RuntimeError` if it does not, or is not installed."""
        found = program()
        if found is None:
            raise RuntimeError(f"{PROGRAM} is not installed (Debian, Ubuntu: apt-get install {PROGRAM})")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([found, self._file], stdout=log, stderr=log, **_unprivileged())
        until = time.monotonic() + START_WITHIN_S
        while not _listens(self._port):
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"{PROGRAM} does not listen:\n{self._log.read_text()}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Every connection through it ends."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None


def configuration(server_dsn: str, changes: Mapping[str, str]) -> str:
    """What the page shows, in front of another server."""
    (shown,) = re.findall(r"^```ini\n(.+?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    server = parse_dsn(server_dsn)
    text, found = re.subn(r"^paynow = .+$", f"* = host={server['host']} port={server['port']}", shown, flags=re.MULTILINE)
    assert found == 1, "the page has the database paynow"
    for name, value in changes.items():
        text, found = re.subn(rf"^{name} = .+$", f"{name} = {value}", text, flags=re.MULTILINE)
        assert found == 1, f"the page has {name}"
    return f"{text}unix_socket_dir =\n"


def _unprivileged() -> dict[str, Any]:
    """It does not run as root. The embedded PostgreSQL's socket is open to the same user."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
