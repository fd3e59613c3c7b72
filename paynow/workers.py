"""The parent of several workers on one port: starts them, replaces the dead, stops them in order. It decides no payment.

Each worker is a program of its own (`cli/worker.py`), started by exec and not by a bare fork: a plugin may hold threads, sockets or locks from the
moment that it is registered, and a copy of those is broken in ways that show late. It costs a start about a second, and each worker its memory.
What a worker works with, the settings as the parent read them and their secrets, it gets over a socket pair, so that one that is replaced is as its
predecessor was. The end of that pair tells it that the parent is gone, by SIGKILL too: it then stops as on SIGTERM. Workers have sessions of
their own, so that a terminal's Ctrl-C is the parent's alone.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from copyreg import dispatch_table
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

from loguru import logger

from paynow.errors import PayNowError
from paynow.observability.sharing import Shared
from paynow.settings.load import Loaded
from paynow.settings.model import ServerSettings

READY = b"r"
START_WITHIN_S = 60.0
STARTS_MAX = 3
"""So often a worker may end before it serves; then the service ends as well, unless others have gone on serving."""
RESTART_FIRST_S = 0.1
RESTART_MAX_S = 10.0
WELL_AFTER_S = 10.0
"""A worker that lived so long was well: when it dies the next one starts after the shortest wait again."""
STOP_MARGIN_S = 5.0
EXIT_REFUSED = 2
"""How a command ends that does not take its configuration; another try would end the same way."""


class WorkersFailed(PayNowError):
    """Workers end before they serve, again and again. `refused` says that it is the configuration's fault, which they have told."""

    def __init__(self, worker: int, times: int, exit_code: int) -> None:
        self.refused = exit_code == EXIT_REFUSED
        super().__init__(f"worker {worker} ended before it served ({times}×, {ended_by(exit_code)}): the lines above say why")


@dataclass(frozen=True, slots=True)
class Handover:
    """All that a worker is given."""

    loaded: Loaded
    shared: Shared


@contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Keeps an address for workers that will listen on it, and says its port (0 takes a free one). Raises `OSError` if somebody listens there."""
    with ExitStack() as held:
        for family, kind, protocol, _, address in dict.fromkeys(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)):
            # First without SO_REUSEPORT: with it, another PayNow of the same user would be joined unnoticed.
            for shares in (False, True):
                reservation = held.enter_context(socket.socket(family, kind, protocol))
                reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
                if family == socket.AF_INET6:
                    reservation.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                reservation.bind((address[0], port, *address[2:]))
                port = reservation.getsockname()[1]
                if not shares:
                    reservation.close()
        yield port


class Workers:
    """`run` it; `stop` ends it, `kill` at once. Made inside the running loop."""

    def __init__(self, loaded: Loaded, folder: Path) -> None:
        """`folder` is private, and shared by the workers for what they count."""
        self._loaded = loaded
        self._folder = folder
        self._count = loaded.settings.server.workers
        self._stop_within_s = stop_within_s(loaded.settings.server)
        self._stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._ready = {number: asyncio.Event() for number in range(1, self._count + 1)}
        self._serving: set[int] = set()
        self._complete = False
        self._clean = True

    async def run(self, serving: Callable[[], None]) -> bool:
        """Until `stop`; calls `serving` once all are. Says whether every worker stopped by itself. Raises `WorkersFailed`.

        The first starts alone: what is wrong with all of them is then said once, and only one seeds the policy.
        """
        try:
            async with asyncio.TaskGroup() as keepers:
                for numbers in ((1,), range(2, self._count + 1)):
                    for number in numbers:
                        keepers.create_task(self._keep(number))
                    for number in numbers:
                        await self._unless_stopping(self._ready[number].wait())
                if not self._stopping.done():
                    self._complete = True
                    serving()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return self._clean

    def stop(self) -> None:
        """Every worker finishes what is under way. Called again, kills them."""
        if self._stopping.done():
            self._clean = False
            for process in self._processes.values():
                _send(process, signal.SIGKILL)
        else:
            self._stopping.set_result(None)

    async def _keep(self, number: int) -> None:
        """Sees to it that there is a worker of that number, until the end."""
        failures = 0
        while not self._stopping.done():
            began_s = time.monotonic()
            served, exit_code = await self._live(number)
            if self._stopping.done():
                return
            failures = 1 if served and time.monotonic() - began_s >= WELL_AFTER_S else failures + 1
            hopeless = exit_code == EXIT_REFUSED or failures >= STARTS_MAX
            if not served and hopeless and not (self._complete and self._serving):
                raise WorkersFailed(number, failures, exit_code)
            wait_s = restart_wait_s(failures)
            died = logger.bind(worker=number, pid=self._processes[number].pid, wait_s=wait_s)
            died = died.bind(exit_code=exit_code) if exit_code >= 0 else died.bind(signal=signal.Signals(-exit_code).name)
            died.error("worker died, another takes its place")
            await self._unless_stopping(asyncio.sleep(wait_s))

    async def _live(self, number: int) -> tuple[bool, int]:
        """One process, from its start to its end: whether it served, and its exit code."""
        served = False
        ours, theirs = socket.socketpair()
        with theirs:
            process = self._processes[number] = await asyncio.create_subprocess_exec(
                *_command(), str(number), str(theirs.fileno()), stdin=asyncio.subprocess.DEVNULL, pass_fds=(theirs.fileno(),), start_new_session=True
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        ended = asyncio.create_task(process.wait())
        ready = asyncio.create_task(reader.read(len(READY)))
        try:
            writer.write(_pickled(Handover(self._loaded, Shared(self._folder, number))))
            await asyncio.wait({ended, ready, self._stopping}, timeout=START_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
            served = ready.done() and ready.exception() is None and ready.result() == READY
            if served:
                self._serving.add(number)
                self._ready[number].set()
                await asyncio.wait({ended, self._stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._serving.discard(number)
            ready.cancel()
            await self._end(number, process, ended)
            writer.close()
            Shared.forget(self._folder, number)
        return served, ended.result()

    async def _end(self, number: int, process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
        if not ended.done():
            _send(process, signal.SIGTERM)
            await asyncio.wait({ended}, timeout=self._stop_within_s)
        if not ended.done():
            self._clean = False
            logger.bind(worker=number, pid=process.pid).error("worker does not stop and is killed")
            _send(process, signal.SIGKILL)
            await asyncio.wait({ended})

    async def _unless_stopping(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self._stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Not by asyncio's own methods: they look whether the process has ended, and its exit code would be lost to who waits for it."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def restart_wait_s(failures: int) -> float:
    """Seconds until the next start after so many ends in a row: each time twice as long, up to the longest."""
    return min(RESTART_FIRST_S * 2 ** min(failures - 1, 30), RESTART_MAX_S)


def stop_within_s(server: ServerSettings) -> float:
    """How long a worker may take to stop: it drains, its requests have the grace, its deliveries of events another, and the rest takes little."""
    return server.drain_s + 2 * server.shutdown_grace_s + STOP_MARGIN_S


def ended_by(exit_code: int) -> str:
    """How a process ended, in words."""
    return f"exit code {exit_code}" if exit_code >= 0 else f"by {signal.Signals(-exit_code).name}"


def with_port(loaded: Loaded, port: int) -> Loaded:
    """The same settings on a port that is known by now."""
    return replace(loaded, settings=replace(loaded.settings, server=replace(loaded.settings.server, port=port)))


def _command() -> list[str]:
    """The worker's program. It looks for modules in the current folder only if this process does."""
    isolated = [] if str(Path.cwd()) in sys.path else ["-P"]
    return [sys.executable, *isolated, "-m", "paynow.cli.worker"]


def _pickled(handover: Handover) -> bytes:
    written = BytesIO()
    pickler = pickle.Pickler(written)
    pickler.dispatch_table = dispatch_table | {MappingProxyType: lambda mapping: (_read_only, (dict(mapping),))}
    pickler.dump(handover)
    return written.getvalue()


def _read_only(mapping: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(mapping)
