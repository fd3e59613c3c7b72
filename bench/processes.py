"""Processes that a run starts: each with a log of its own, awaited until it answers, ended by its process id."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.stage import ROOT

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 30.0
POLL_S = 0.05
LOG_TAIL_MAX_BYTES = 3_000


class DidNotServe(Exception):
    """A process ended, or did not answer in time; the text ends with the last of its log."""


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """Ours without PayNow's own variables, and what is given; `bench` can be imported from anywhere."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PAYNOW_") and name not in ("DATABASE_URL", "API_KEY")}
    return {**ours, "PYTHONPATH": str(ROOT), **more}


@contextmanager
def serving(
    command: Sequence[str], *, port: int, ready: str, folder: Path, log: str, environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A server for the length of the block, once `ready` answers with anything below 500. Its output is kept in the file `log`."""
    path = folder / log
    with path.open("ab") as output:
        process = subprocess.Popen(command, cwd=folder, env=dict(environ), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        _wait_until_ready(process, port, ready, path)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL to this one process if it does not end."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, ready: str, log: Path) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while not _answers(port, ready):
        if process.poll() is not None or time.monotonic() > until:
            raise DidNotServe(f"{' '.join(map(str, process.args))}\n{log.read_bytes()[-LOG_TAIL_MAX_BYTES:].decode(errors='replace')}")
        time.sleep(POLL_S)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()
