"""Who may do what: API keys checked in constant time, remembered for a few seconds, so that a revoked key ends everywhere within ten.

Of tokens it knows only that somebody else checks them."""

from __future__ import annotations

import asyncio
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from paynow.api_keys import SCOPES, key_id_of, sha256
from paynow.clock import Clock
from paynow.errors import LimiterUnavailable, LimitState, NotAuthenticated, RateLimited, Refusal
from paynow.plugin_api import Limit, RateLimiter
from paynow.store.administration import Administration
from paynow.store.records import StoredKey

REMEMBERED_S = 5.0
REMEMBERED_MAX = 10_000
ENVIRONMENT_KEY_ID = "environment"
KEY_PREFIX = "pn_"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key or token a request carries, and what it may do."""

    key_id: str
    scopes: frozenset[str]
    limit: Limit | None


class Keyring:
    """Checks presented keys. Key hashes come from the store; the environment's own key has every scope."""

    def __init__(
        self,
        administration: Administration,
        limiter: RateLimiter,
        clock: Clock,
        *,
        environment_key: str | None,
        on_limiter_failure: str,
        limiter_failed: Callable[[str], None],
        rate_limited: Callable[[str], None],
        local_limiter: RateLimiter | None,
        caller_of_token: Callable[[str, bytes], Awaitable[Caller]] | None = None,
    ) -> None:
        """`caller_of_token` is asked, with its SHA-256, for whatever is presented as a bearer token and is no API key; None: no token is taken."""
        self._administration = administration
        self._limiter = limiter
        self._local_limiter = local_limiter
        self._on_limiter_failure = on_limiter_failure
        self._limiter_failed = limiter_failed
        self._rate_limited = rate_limited
        self._clock = clock
        self._caller_of_token = caller_of_token
        self._environment_sha256 = sha256(environment_key) if environment_key else None
        self._environment_caller = Caller(ENVIRONMENT_KEY_ID, frozenset(SCOPES), None)
        self._remembered: OrderedDict[str, tuple[StoredKey, float]] = OrderedDict()
        self._loading: dict[str, asyncio.Task[StoredKey | None]] = {}
        self._used: dict[str, datetime] = {}

    async def authenticate(self, presented: str | None, *, bearer: bool = False) -> Caller:
        """The caller behind a presented key, or behind a token if it was presented as a bearer's. Raises `NotAuthenticated`, `InvalidToken`,
        `SigningKeysUnavailable`, `RateLimited` (the caller's own limit), and the store's refusals."""
        if not presented:
            raise NotAuthenticated()
        digest = sha256(presented)
        if self._environment_sha256 is not None and hmac.compare_digest(digest, self._environment_sha256):
            return self._environment_caller
        if bearer and self._caller_of_token is not None and not presented.startswith(KEY_PREFIX):
            caller = await self._caller_of_token(presented, digest)
            if caller.limit is not None:
                await self._take(caller.key_id, caller.limit)
            return caller
        key_id = key_id_of(presented)
        stored = await self._stored(key_id) if key_id is not None else None
        if stored is None or not hmac.compare_digest(digest, stored.secret_sha256) or not self._valid(stored):
            raise NotAuthenticated()
        limit = Limit(stored.rate_per_s, stored.rate_burst) if stored.rate_per_s and stored.rate_burst else None
        if limit is not None:
            await self._take(stored.key_id, limit)
        self._used[stored.key_id] = self._clock.now()
        return Caller(stored.key_id, frozenset(stored.scopes), limit)

    async def note_used(self) -> None:
        """Writes down when keys were last used. Raises the store's refusals; what is not written is kept for the next time."""
        used, self._used = self._used, {}
        if used:
            try:
                await self._administration.keys_used(used)
            except Refusal:
                self._used = {**used, **self._used}
                raise

    def _valid(self, key: StoredKey) -> bool:
        return key.revoked_at is None and (key.expires_at is None or key.expires_at > self._clock.now())

    async def _stored(self, key_id: str) -> StoredKey | None:
        remembered = self._remembered.get(key_id)
        if remembered is not None and self._clock.monotonic() < remembered[1]:
            return remembered[0]
        loading = self._loading.get(key_id)
        if loading is None:
            loading = self._loading[key_id] = asyncio.create_task(self._load(key_id))
            loading.add_done_callback(lambda _: self._loading.pop(key_id, None))
        return await asyncio.shield(loading)

    async def _load(self, key_id: str) -> StoredKey | None:
        key = await self._administration.find_key(key_id)
        self._remembered.pop(key_id, None)
        if key is not None:
            self._remembered[key_id] = (key, self._clock.monotonic() + REMEMBERED_S)
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        return key

    async def _take(self, key_id: str, limit: Limit) -> None:
        try:
            grant = await self._limiter.take("api_key", key_id, limit)
        except Exception as error:
            self._limiter_failed(self._on_limiter_failure)
            if self._on_limiter_failure == "deny" or self._local_limiter is None:
                raise LimiterUnavailable(retry_after_s=1) from error
            grant = await self._local_limiter.take("api_key", key_id, limit)
        if not grant.allowed:
            self._rate_limited("api_key")
            told = LimitState("api_key", limit.per_second, limit.burst, grant.remaining, grant.reset_s)
            raise RateLimited("The API key's limit of requests is reached", retry_after_s=grant.retry_after_s, told=told)
