"""How much time is left for a payment, and how long to wait before a tool is tried again. It knows no tool."""

from __future__ import annotations

import random
from collections.abc import Callable


class Deadline:
    """The moment, in monotonic seconds, by which the agent has to be done with a payment; it runs from when it is made."""

    __slots__ = ("_end", "_monotonic")

    def __init__(self, limit_s: float, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._end = monotonic() + limit_s

    def left(self) -> float:
        """The seconds that are left; negative when it has passed."""
        return self._end - self._monotonic()


def backoff_s(attempt: int, base_s: float, chance: random.Random) -> float:
    """Seconds to wait after attempt number `attempt` failed: exponential with full jitter, so that those who failed together part."""
    return chance.uniform(0, base_s * 2 ** (attempt - 1))
