"""The small process that owns an embedded PostgreSQL for as long as some program holds it; see `embedded.py`.

Run by its path with the standard library alone, so that it starts in a few milliseconds, needs no import path and knows nothing of PayNow.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

PR_SET_PDEATHSIG = 1


def detach() -> None:
    """Leaves the program that started us: it must neither wait for us nor find us among its children."""
    if os.fork():
        os._exit(0)


def stop_with(keeper_pid: int) -> None:
    """In PostgreSQL's process, after it has become the unprivileged user (which would clear the setting), before it is PostgreSQL:
    asks Linux for a fast shutdown (SIGINT) when the keeper dies in whatever way. A job in a shell's background inherits that SIGINT is
    ignored; PostgreSQL would miss one that comes before it is ready for it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != keeper_pid:
        os._exit(1)


def stop_when_unheld(holders_lock: str, server: subprocess.Popen[bytes]) -> None:
    """Waits until no program holds the server, then shuts it down. The lock stays ours to the end, so that newcomers wait for it."""
    with open(holders_lock, "rb") as lock:  # noqa: PTH123 - pathlib would double the time this process takes to start
        fcntl.flock(lock, fcntl.LOCK_EX)
        server.send_signal(signal.SIGINT)
        server.wait()


def main(command: list[str], holders_lock: str, running: int, user: dict, socket_folder: str) -> None:
    """`running` is the descriptor of the lock that says that the server runs; PostgreSQL and all its children inherit it."""
    detach()
    keeper_pid = os.getpid()
    server = subprocess.Popen(command, pass_fds=(running,), preexec_fn=lambda: stop_with(keeper_pid), cwd="/", **user)  # noqa: PLW1509 - no thread yet
    threading.Thread(target=stop_when_unheld, args=(holders_lock, server), daemon=True).start()
    server.wait()
    with suppress(OSError):
        os.rmdir(socket_folder)  # noqa: PTH106 - goes only if it is empty: a folder of its own under /tmp


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
