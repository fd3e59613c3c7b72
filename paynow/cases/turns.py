"""Turns for what people ask: few of them at once, so that a rush on the cases takes neither all connections nor the patience of payments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from paynow.errors import Overloaded

AT_ONCE_MAX = 4
WAITING_MAX = 2_000
WAIT_MAX_S = 20.0


class Turns:
    """`async with turns.take():` around a piece of work; turns come in the order in which they were asked for."""

    def __init__(self, *, at_once_max: int = AT_ONCE_MAX, waiting_max: int = WAITING_MAX, wait_max_s: float = WAIT_MAX_S) -> None:
        self._free = asyncio.Semaphore(at_once_max)
        self._waiting = 0
        self._waiting_max = waiting_max
        self._wait_max_s = wait_max_s

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Waits for a turn. Raises `Overloaded` if too many wait, or if none comes in time: nothing has happened then."""
        if self._waiting >= self._waiting_max:
            raise Overloaded(retry_after_s=1)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_max_s):
                await self._free.acquire()
        except TimeoutError:
            raise Overloaded(retry_after_s=1) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()
