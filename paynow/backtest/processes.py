"""The past worked through by several processes side by side, each with its own session on one snapshot. Knows nothing of what is done with it."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import connection as waiting
from multiprocessing import get_context, parent_process
from typing import Any, Protocol, TypeVar

from paynow.errors import PayNowError
from paynow.store.past import SLICE_DECISIONS, Past, open_past

WORKERS_MAX = 256
AHEAD = 3
"""Parts given out for each process: one at hand, the others so that it never waits."""

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
Part = TypeVar("Part")
Part_contra = TypeVar("Part_contra", contravariant=True)


class WorkerLost(PayNowError):
    """A process ended in the middle of its work: it was killed, or memory ran out."""


class Task(Protocol[Part_contra, Result_co]):
    """What is done with each part of the past. It can be pickled and travels to each process once, where `begin` comes before the first part."""

    def begin(self, past: Past) -> None:
        """Makes ready in the process, with its session."""

    def __call__(self, part: Part_contra) -> Result_co:
        """What a part comes to: small, for it travels back."""


def side_by_side(past: Past, dsn: str, task: Task[Part, Result], parts: Iterator[Part], workers: int) -> Iterator[Result]:
    """What each part comes to, in the order of the parts. One worker is this process itself; several see what `past` sees, and end with the iterator.

    Several can be had from the main thread only, which hears Ctrl-C. Raises `WorkerLost`, and whatever the task raises.
    """
    if workers == 1:
        task.begin(past)
        yield from map(task, parts)
        return
    given: deque[Future[Result]] = deque()
    # Started anew, not forked: a copy of this process would hold its session, and the embedded server's locks.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_take, initargs=(dsn, past.snapshot, task))
    try:
        for part in parts:
            with _interrupts_held():
                given.append(pool.submit(_do, part))
            if len(given) >= workers * AHEAD:
                yield given.popleft().result()
        while given:
            yield given.popleft().result()
    except BrokenProcessPool as error:
        raise WorkerLost("a process of this command has ended, perhaps because memory ran out: try fewer --workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C is heard when the block is over: it begins processes and a thread, and a pool that is half begun can be neither used nor ended."""
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        signal.raise_signal(signal.SIGINT)


def workers_for(decisions: int, workers: int | None) -> int:
    """How many processes to start: as many as wished, else as there are processors, and no more than there are slices."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(workers or processors, -(-decisions // SLICE_DECISIONS)))


_HERE = ExitStack()
"""What a worker process holds until it ends: its session."""
_GIVEN: list[tuple[str, str, Task[Any, Any]]] = []
_AT_WORK: list[Task[Any, Any]] = []


def _take(dsn: str, snapshot: str, task: Task[Any, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was called, which ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _GIVEN.append((dsn, snapshot, task))


def _do(part: Any) -> Any:
    """The first part opens the session, so that a failure to do so is told like any other."""
    if not _AT_WORK:
        dsn, snapshot, task = _GIVEN[0]
        task.begin(_HERE.enter_context(open_past(dsn, snapshot)))
        _AT_WORK.append(task)
    return _AT_WORK[0](part)


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        waiting.wait([parent.sentinel])
        os._exit(1)
