"""A server program as a child of the tests: started until it answers, stopped by its process id, started again with what it had."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from waiting import eventually

UNPRIVILEGED = "nobody" if os.geteuid() == 0 else None
"""As whom servers run that refuse root, or should not have its rights; None where we are not root ourselves."""
STOP_MAX_S = 30


class ServerProcess:
    """One program with its command, its environment and the log that it writes to its standard error. Without a `user` it runs as whoever we are."""

    def __init__(self, command: Sequence[str], folder: Path, environ: Mapping[str, str], log: str, *, user: str | None = None) -> None:
        self.log = folder / log
        self._command = command
        self._folder = folder
        self._environ = environ
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder), **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                group=pwd.getpwnam(self._user).pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
            )

    def until_it_answers(self, port: int, greeting: bytes, reply: bytes) -> None:
        """Waits until whoever listens on the port of this machine answers the greeting with bytes that begin like the reply."""

        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"{self._command[0]} ended:\n{self.log_end()}"
            return answers(port, greeting, reply)

        try:
            eventually(ready, within_s=60)
        except BaseException:
            self.kill()
            raise

    def run(self) -> None:
        """For a program that comes to its end by itself, as it should."""
        self.start()
        assert self._process is not None
        code = self._process.wait(timeout=60)
        assert code == 0, f"{self._command[0]} ended with {code}:\n{self.log_end()}"

    def stop(self) -> None:
        """SIGTERM, and waits for the end; harmless if there was no start."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_MAX_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._process = None

    def kill(self) -> None:
        """SIGKILL: nothing is said or tidied up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=STOP_MAX_S)
            self._process = None

    def log_end(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


def answers(port: int, greeting: bytes, reply: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(greeting)
            return connection.recv(len(reply)) == reply
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, each another."""
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in listening]
    finally:
        for each in listening:
            each.close()


@contextmanager
def private_folder(prefix: str, *, user: str | None = None) -> Iterator[Path]:
    """A folder of the user who runs the server, closed to all others."""
    folder = Path(tempfile.mkdtemp(prefix=f"paynow-test-{prefix}-"))
    try:
        if user:
            shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
