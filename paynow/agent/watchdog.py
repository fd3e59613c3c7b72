"""Names the tool that held the event loop. Every step of a tool, from one await to the next, is timed; a thread sees those that do not come back.

It cannot see tasks that a tool starts by itself, and a step that also holds the interpreter's lock (GIL) silences the thread until it ends.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any

from loguru import logger


class Watchdog:
    """Times the steps of all tools of one event loop. `hold_max_s` is how long a single step may take."""

    def __init__(self, hold_max_s: float, monotonic: Callable[[], float]) -> None:
        self._hold_max_s = hold_max_s
        self._monotonic = monotonic
        self._step: tuple[str, float] | None = None
        self._stopped = threading.Event()
        threading.Thread(target=self._look, name="paynow-watchdog", daemon=True).start()

    @types.coroutine
    def steps(self, tool: str, coroutine: Coroutine[Any, Any, Any], held: Callable[[float], None]) -> Generator[Any, None, Any]:
        """Awaits `coroutine`, timing each step; `held` is told the seconds of each that took too long.

        `held` is called at once, before the tool goes on: a tool that never ends is named all the same.
        """
        monotonic = self._monotonic
        thrown: BaseException | None = None
        while True:
            started = monotonic()
            self._step = (tool, started)
            try:
                awaited = coroutine.send(None) if thrown is None else coroutine.throw(thrown)
            except StopIteration as stop:
                return stop.value
            finally:
                self._step = None
                took = monotonic() - started
                if took > self._hold_max_s:
                    held(took)
            thrown = None
            try:
                yield awaited
            except BaseException as error:
                if self._stopped.is_set():
                    # A tool that swallows cancellation must not keep the process from ending.
                    with suppress(RuntimeError):
                        coroutine.close()
                    raise
                thrown = error

    def stop(self) -> None:
        """Ends the thread. A tool that is cancelled from now on is closed and not stepped again."""
        self._stopped.set()

    def _look(self) -> None:
        named: tuple[str, float] | None = None
        while not self._stopped.wait(self._hold_max_s / 2):
            step = self._step
            if step is None or step is named or self._monotonic() - step[1] <= self._hold_max_s:
                continue
            named = step
            logger.bind(tool=step[0]).error("tool is holding the event loop")
