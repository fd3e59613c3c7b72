"""The one place in the tests that lets time pass: until something is true, never for a guessed while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Seen = TypeVar("Seen")
POLL_S = 0.01


def eventually(seen: Callable[[], Seen], *, within_s: float = 10.0) -> Seen:
    """The first true value of `seen`, asked again and again; an assertion fails if there is none in time."""
    deadline = time.monotonic() + within_s
    while not (value := seen()):
        assert time.monotonic() < deadline, f"not seen within {within_s} s: {seen}"
        time.sleep(POLL_S)
    return value


async def eventually_async(seen: Callable[[], Awaitable[Seen]], *, within_s: float = 10.0) -> Seen:
    """The same for a coroutine function, while the loop goes on."""
    deadline = time.monotonic() + within_s
    while not (value := await seen()):
        assert time.monotonic() < deadline, f"not seen within {within_s} s: {seen}"
        await asyncio.sleep(POLL_S)
    return value


async def meanwhile(seen: Callable[[], Seen], *, within_s: float = 10.0) -> Seen:
    """The same for a plain function, while the loop goes on."""

    async def asked() -> Seen:
        return seen()

    return await eventually_async(asked, within_s=within_s)
