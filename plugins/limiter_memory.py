"""The rate limiter `memory`: token buckets of one process, by the generic cell rate algorithm (ITU-T I.371), in whole nanoseconds.

For each subject only the moment is kept at which its bucket is full again; `sql/functions/20_claim.sql` does the same sums.
"""

import time
from collections.abc import Awaitable, Callable, Sequence

from paynow.plugin_api import Grant, Limit, RateLimiter, RateLimiterMaker, hookimpl

SUBJECTS_MAX = 100_000
SWEEP_EVERY_S = 1.0
S = 1_000_000_000


class MemoryLimiter:
    """Holds at most `subjects_max` buckets that are not full. Full ones are dropped when room is needed, which changes nothing;
    if there is still no room a new subject is refused for a second: to forget a bucket would be to give its tokens back."""

    name = "memory"
    shared = False
    inside_claim = False

    def __init__(self, *, subjects_max: int = SUBJECTS_MAX, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._subjects_max = subjects_max
        self._monotonic = monotonic
        self._full_at_ns: dict[tuple[str, str], int] = {}
        self._sweep_at_ns = 0

    async def take(self, kind: str, subject: str, limit: Limit) -> Grant:
        now = round(self._monotonic() * S)
        key = (kind, subject)
        if key not in self._full_at_ns and not self._room(now):
            return Grant(allowed=False, remaining=0, retry_after_s=SWEEP_EVERY_S, reset_s=SWEEP_EVERY_S)
        interval = max(1, round(S / limit.per_second))
        capacity = limit.burst * interval
        full_at = max(self._full_at_ns.get(key, now), now)
        allowed = full_at + interval - now <= capacity
        if allowed:
            full_at += interval
            self._full_at_ns[key] = full_at
        left = capacity - (full_at - now)
        return Grant(allowed, max(0, left // interval), max(0, interval - left) / S, (full_at - now) / S)

    def _room(self, now: int) -> bool:
        """Whether one more subject may be held. Looking through all of them is bounded to once a second."""
        if len(self._full_at_ns) >= self._subjects_max and now >= self._sweep_at_ns:
            self._sweep_at_ns = now + round(SWEEP_EVERY_S * S)
            self._full_at_ns = {key: full_at for key, full_at in self._full_at_ns.items() if full_at > now}
        return len(self._full_at_ns) < self._subjects_max


def make(_take: Callable[[str, str, Limit], Awaitable[Grant]]) -> RateLimiter:
    return MemoryLimiter()


@hookimpl
def paynow_register_rate_limiters(settings) -> Sequence[RateLimiterMaker]:
    return [RateLimiterMaker(MemoryLimiter.name, make, shared=MemoryLimiter.shared)]
