"""One worker of `paynow serve --workers`, a program that only its parent (`paynow/workers.py`) starts, with its number and a socket."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

from paynow.app import check
from paynow.cli import faults_end_it
from paynow.cli.common import database
from paynow.cli.serving import run_service
from paynow.observability import logs
from paynow.workers import READY, Handover, stop_within_s


def main(number: int, channel_fd: int) -> None:
    """Serves until SIGTERM, or until the parent is gone."""
    channel = socket.socket(fileno=channel_fd)
    channel.set_inheritable(False)
    handover: Handover = pickle.load(channel.makefile("rb"))
    orphaned = threading.Event()
    threading.Thread(target=_stop_with_parent, args=(channel, handover, orphaned), name="parent watch", daemon=True).start()
    settings = handover.loaded.settings
    with faults_end_it():
        assembly = check(handover.loaded)
        hash_key = str(settings.secrets.log_hash_key).encode()
        logs.configure(settings.logging, hash_key=hash_key, sensitive_fields=assembly.plugins.sensitive_fields, worker=number)
        # A hold of its own on an embedded server, which thereby outlives the parent for as long as this worker needs to finish.
        with database(settings, announce=False) as dsn:
            asyncio.run(run_service(assembly, dsn, shared=handover.shared, ready=lambda port: channel.sendall(READY)))
    if orphaned.is_set():
        handover.shared.leave()


def _stop_with_parent(channel: socket.socket, handover: Handover, orphaned: threading.Event) -> None:
    """The parent never says anything more: what comes is the end of the channel, when it has died, and to see to the end is up to us."""
    with suppress(OSError):  # what was said and not read makes the end a reset
        channel.recv(1)
    orphaned.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(stop_within_s(handover.loaded.settings.server))
    handover.shared.leave()
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
