"""A limit that holds in one process, divided among the workers of a service. Knows nothing of what is limited."""

from __future__ import annotations

from paynow.plugin_api import Grant, Limit, RateLimiter


class LimitShare:
    """Lets one of so many workers have its share of a limit: of the rate exactly, of the burst rounded down, but one at a time at least.

    All of them together give what one process would, or a little less; more only where the burst is smaller than there are workers.
    """

    shared = False
    inside_claim = False

    def __init__(self, limiter: RateLimiter, workers: int) -> None:
        self.name = limiter.name
        self._limiter = limiter
        self._workers = workers

    async def take(self, kind: str, subject: str, limit: Limit) -> Grant:
        share = Limit(limit.per_second / self._workers, max(1, limit.burst // self._workers))
        return await self._limiter.take(kind, subject, share)
