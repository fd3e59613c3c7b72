"""The rate limiter `postgres`: token buckets in PostgreSQL, exact over all processes. The customer's limit is asked inside the claim."""

from collections.abc import Awaitable, Callable, Sequence

from paynow.plugin_api import Grant, Limit, RateLimiter, RateLimiterMaker, hookimpl

Take = Callable[[str, str, Limit], Awaitable[Grant]]


class PostgresLimiter:
    """Takes tokens where the store keeps them."""

    name = "postgres"
    shared = True
    inside_claim = True

    def __init__(self, take: Take) -> None:
        self._take = take

    async def take(self, kind: str, subject: str, limit: Limit) -> Grant:
        return await self._take(kind, subject, limit)


def make(take: Take) -> RateLimiter:
    return PostgresLimiter(take)


@hookimpl
def paynow_register_rate_limiters(settings) -> Sequence[RateLimiterMaker]:
    return [RateLimiterMaker(PostgresLimiter.name, make, shared=PostgresLimiter.shared)]
