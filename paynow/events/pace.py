"""How long the relay and its lanes wait: for a word or a moment, after a failure, and before an event is tried again by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from paynow.clock import Clock

RETRY_WAITS_S = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Waits before the second and each later try of an event that is tried by itself, as Standard Webhooks proposes them: over three days in all."""


def backoff_s(failures: int, first_s: float, longest_s: float, jitter: Callable[[], float]) -> float:
    """Seconds to wait after so many failures in a row: doubling up to the longest, between half of it and all of it at random."""
    return min(longest_s, first_s * 2 ** min(failures - 1, 30)) * (0.5 + jitter() / 2)


def retry_wait_s(attempts: int, jitter: Callable[[], float]) -> float | None:
    """Seconds until an event that was tried so often by itself is tried again, up to a tenth more at random; None after the last try."""
    if attempts > len(RETRY_WAITS_S):
        return None
    return RETRY_WAITS_S[attempts - 1] * (1 + jitter() / 10)


async def until(event: asyncio.Event, seconds: float, clock: Clock) -> None:
    """Waits for the event, for at most so many seconds of the clock."""
    waits = {asyncio.ensure_future(event.wait()), asyncio.ensure_future(clock.sleep(seconds))}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
