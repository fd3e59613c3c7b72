"""A program that holds an embedded server until its standard input ends, and the way tests run it: as a process of its own, to be killed.

python holding.py FOLDER [BIN_DIR]      prints `started` or `attached` and the DSN, or `failed` and the reason, as JSON
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import paynow
from database import BIN_DIR, FAST, execute
from paynow.store import embedded


class Holder:
    """The program at work. `said` is what it printed: `state`, and `dsn` or `reason`."""

    def __init__(self, folder: Path, *, user: str | None = None) -> None:
        command = [sys.executable] if user is None else ["runuser", "-u", user, "--", python_for(user)]
        command += [__file__, str(folder), *([str(BIN_DIR)] if BIN_DIR else [])]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, "PYTHONPATH": python_path()}
        )
        self._said: dict[str, str] | None = None

    @property
    def said(self) -> dict[str, str]:
        """Waits for it."""
        if self._said is None:
            self._said = json.loads(self.process.stdout.readline())
        return self._said

    def press_ctrl_c(self) -> str:
        """What a terminal does: the whole process group gets the signal. Returns what the program prints then."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        """Ends it in peace, if it still runs; it returns when it has let the server go."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def python_for(user: str) -> str:
    """A Python that this user can run, with the packages of ours. The test is skipped if there is none, or if we are not root."""
    if os.geteuid() != 0 or shutil.which("runuser") is None:
        pytest.skip("only root can run a program as another user")
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info[1]}"):
        command = ["runuser", "-u", user, "--", python, "-c", "import paynow.store.embedded, database"]
        if subprocess.run(command, check=False, capture_output=True, cwd="/", env={**os.environ, "PYTHONPATH": python_path()}).returncode == 0:
            return python
    pytest.skip(f"the user {user} can run no Python 3.{sys.version_info[1]} with these packages here")


def owner_of(pid: int) -> str:
    """The name of the user whose process it is."""
    return pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_name


def python_path() -> str:
    """What another Python needs to find the tests' modules, PayNow and our packages."""
    return os.pathsep.join([str(Path(__file__).parent), str(Path(paynow.__file__).parents[1]), *filter(None, sys.path)])


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
    arguments = [Path(argument) for argument in sys.argv[1:]]
    try:
        with embedded.start(arguments[0], settings=FAST, bin_dir=arguments[1] if arguments[1:] else None) as server:
            try:
                _say(json.dumps({"state": "started" if server.started else "attached", "dsn": server.dsn}))
                sys.stdin.read()
            except KeyboardInterrupt:
                _say(f"interrupted, and the server answers {execute(server.dsn, 'select 1')[0][0]}")
    except embedded.EmbeddedServerFailed as error:
        _say(json.dumps({"state": "failed", "reason": str(error)}))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
