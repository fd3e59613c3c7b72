"""Turns for what people ask: few of them at once, so that a rush of them takes neither connections nor processor time from payments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from paynow.errors import Overloaded


class Turns:
    """`async with turns.take():` around a piece of work; turns come in the order in which they were asked for."""

    def __init__(self, *, at_once_max: int, waiting_max: int, wait_max_s: float) -> None:
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
