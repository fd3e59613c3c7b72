"""Watches the configured rate limiter: whether its store answers is told once when it changes, and while it does not, hardly anybody waits for it.

Knows nothing of what is limited, nor of what is done meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

from paynow.plugin_api import Grant, Limit, RateLimiter

PAUSE_S = 0.5


class LimiterPaused(Exception):
    """The limiter's store has failed a moment ago, and is not asked just now."""


class LimitWatch:
    """Hands takes on to a limiter. After one that fails nobody asks for `pause_s`; then one does, alone, and when it gets an answer all do again.
    With a pause of 0 everybody goes on asking.

    `action` is what `rate_limit.on_store_failure` says; `changed` is told when the store goes down (True) and when it is back (False).
    """

    def __init__(
        self, limiter: RateLimiter, *, action: str, changed: Callable[[bool], None], monotonic: Callable[[], float], pause_s: float = PAUSE_S
    ) -> None:
        self.name = limiter.name
        self.shared = limiter.shared
        self.inside_claim = limiter.inside_claim
        self._limiter = limiter
        self._action = action
        self._changed = changed
        self._monotonic = monotonic
        self._pause_s = pause_s
        self._down = False
        self._era = 0
        self._ask_again_at = 0.0
        self._asking = False

    @property
    def state(self) -> str:
        """`ok`, or what is done while the limiter's store is down: `deny` or `local`."""
        return self._action if self._down else "ok"

    async def take(self, kind: str, subject: str, limit: Limit) -> Grant:
        """As the limiter. Raises `LimiterPaused` besides what it raises."""
        alone = self._down and self._pause_s > 0
        if alone and (self._asking or self._monotonic() < self._ask_again_at):
            raise LimiterPaused()
        self._asking = self._asking or alone
        era = self._era
        try:
            grant = await self._limiter.take(kind, subject, limit)
        except Exception as error:
            if era == self._era:
                self._failed(error)
            raise
        finally:
            if alone:
                self._asking = False
        if self._down and era == self._era:
            self._become(down=False)
            logger.bind(backend=self.name).warning("the rate limiter's store is back")
        return grant

    async def close(self) -> None:
        """Closes the limiter, if it can be closed; what goes wrong then is logged."""
        close = getattr(self._limiter, "close", None)
        if close is None:
            return
        try:
            await close()
        except Exception as error:
            logger.bind(backend=self.name, error=type(error).__name__).warning("the rate limiter could not be closed")

    def _failed(self, error: Exception) -> None:
        self._ask_again_at = self._monotonic() + self._pause_s
        if not self._down:
            self._become(down=True)
            logger.bind(backend=self.name, action=self._action, error=type(error).__name__).error("the rate limiter's store is down")

    def _become(self, *, down: bool) -> None:
        """Calls that began before a change say nothing about the state after it."""
        self._down = down
        self._era += 1
        self._changed(down)
