"""Threads for blocking tools: a few per tool, never queued for, and never in the way of the process's exit.

The standard executor queues without bound and joins its threads at exit, so that one stuck call would keep the process alive.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

from paynow.plugin_api import ToolError

THREADS_MAX = 8

_Job = tuple[asyncio.AbstractEventLoop, asyncio.Future, Callable[[], Any]]


class Threads:
    """Up to `THREADS_MAX` daemon threads, started when they are first needed. To be used from one event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._busy = 0
        self._threads = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    async def run(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """What `function(argument)` returns or raises. Raises `ToolError("threads_busy")` at once if every thread is taken.

        A call that nobody waits for any longer keeps its thread until it returns by itself.
        """
        if self._busy >= THREADS_MAX:
            raise ToolError("threads_busy")
        self._busy += 1
        if self._busy > self._threads:
            self._threads += 1
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        context = contextvars.copy_context()
        self._jobs.put((loop, future, lambda: context.run(function, argument)))
        value, error = await future
        if error is not None:
            raise error
        return value

    def stop(self) -> None:
        """Lets the threads end that are idle, and the others as soon as their call returns."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, call = job
            value = error = None
            try:
                value = call()
            except BaseException as raised:
                error = raised
            try:
                loop.call_soon_threadsafe(self._ended, future, value, error)
            except RuntimeError:
                return  # the loop is closed: nobody is left to tell
            # An idle thread keeps nothing of the last payment alive.
            del job, future, call, value, error

    def _ended(self, future: asyncio.Future, value: Any, error: BaseException | None) -> None:
        self._busy -= 1
        if not future.done():
            future.set_result((value, error))
