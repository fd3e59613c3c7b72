"""The public keys that tokens are checked with: a JWK Set (RFC 7517) of the identity provider, fetched before it is too old, and never in a storm.

It knows nothing of tokens. It needs the extra `paynow[jwt]`, so nobody imports it who is not configured to take tokens.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode
from loguru import logger

from paynow.clock import Clock
from paynow.errors import SigningKeysUnavailable
from paynow.settings import JwtSettings

ASK_AGAIN_AFTER_S = 5.0
"""A key that nobody knows makes us ask for new ones so often at most, and so soon we try again when there was no answer."""

JWKS_BYTES_MAX = 262_144
KEYS_MAX = 100
RSA_BITS = range(2048, 8193)
"""Shorter keys are no longer safe (RFC 7518, section 3.3), longer ones slow."""

PublicKey = RSAKey | ECKey | OKPKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and the algorithms that a token signed with it may name: those that are allowed and fit its type, its curve and its own `alg`."""

    kid: str | None
    key: PublicKey
    algorithms: frozenset[str]


class NoKeySet(Exception):
    """What was answered is not a JWK Set."""


class SigningKeys:
    """`fetched` is told how each fetch ended (`ok`, `error`, `timeout`) and when, in seconds since 1970. `changed` may be set, and is called when
    there are other keys than before."""

    def __init__(self, settings: JwtSettings, clock: Clock, fetched: Callable[[str, float], None]) -> None:
        assert settings.jwks_url is not None
        self._url = settings.jwks_url
        self._algorithms = settings.algorithms
        self._cache_s = settings.cache_s
        self._usable_s = settings.cache_s + settings.stale_s
        self._timeout = aiohttp.ClientTimeout(total=settings.timeout_ms / 1000)
        self._clock = clock
        self._fetched = fetched
        self.changed: Callable[[], None] = lambda: None
        self._keys: tuple[SigningKey, ...] = ()
        self._written = b""
        self._usable_until = float("-inf")
        self._asked_at = float("-inf")
        self._failing = False
        self._fetching: asyncio.Task[None] | None = None

    async def follow(self) -> None:
        """Fetches the keys twice in `cache_s`, so that none that is gone outlives it; sooner again when there was no answer."""
        while True:
            await self._fetch()
            await self._clock.sleep(min(self._cache_s / 2, ASK_AGAIN_AFTER_S) if self._failing else self._cache_s / 2)

    async def close(self) -> None:
        """Ends a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    @property
    def usable(self) -> bool:
        """Whether there are keys that are not too old to count."""
        return self._clock.monotonic() < self._usable_until

    async def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """The key of a token; None if there is none, or if it is for another algorithm. A `kid` that nobody knows may be new: the keys are asked for
        again, unless they were just now. Raises `SigningKeysUnavailable` if they could not be had."""
        if not self.usable:
            await self._ask_again()
            if not self.usable:
                raise SigningKeysUnavailable(retry_after_s=ASK_AGAIN_AFTER_S)
        if kid is not None and not self._knows(kid):
            await self._ask_again()
            if self._failing and not self._knows(kid):
                raise SigningKeysUnavailable(retry_after_s=ASK_AGAIN_AFTER_S)
        fitting = [known.key for known in self._keys if algorithm in known.algorithms and kid in (None, known.kid)]
        return fitting[0] if fitting and (kid is not None or len(fitting) == 1) else None

    def _knows(self, kid: str) -> bool:
        return any(known.kid == kid for known in self._keys)

    async def _ask_again(self) -> None:
        if self._fetching is not None or self._clock.monotonic() >= self._asked_at + ASK_AGAIN_AFTER_S:
            await self._fetch()

    async def _fetch(self) -> None:
        """One fetch at a time: whoever comes meanwhile waits for its end."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._take(), name="fetch of signing keys")
            self._fetching.add_done_callback(self._done)
        await asyncio.shield(self._fetching)

    def _done(self, _: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _take(self) -> None:
        began = self._asked_at = self._clock.monotonic()
        try:
            written = await self._read()
            keys = tuple(read_key_set(written, self._algorithms))
        except Exception as error:  # whatever it is, the keys that are known stay what they are
            self._failed(error)
            return
        self._fetched("ok", self._clock.now().timestamp())
        if self._failing:
            logger.info("the signing keys can be fetched again")
        self._failing = False
        self._usable_until = began + self._usable_s
        if written != self._written:
            self._written, self._keys = written, keys
            self.changed()
            logger.bind(count=len(keys)).info("the signing keys have changed")

    def _failed(self, error: Exception) -> None:
        self._fetched("timeout" if isinstance(error, TimeoutError) else "error", self._clock.now().timestamp())
        if not self._failing:
            logger.bind(error=type(error).__name__).warning("the signing keys cannot be fetched")
        self._failing = True

    async def _read(self) -> bytes:
        """What the identity provider answers, as its bytes are: no redirect is followed, nothing is unpacked, and no more is read than may be."""
        asked = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        async with (
            aiohttp.ClientSession(timeout=self._timeout, auto_decompress=False) as session,
            session.get(self._url, headers=asked, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise NoKeySet(f"answered with {response.status}")
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > JWKS_BYTES_MAX:
                    raise NoKeySet("too large")
            return bytes(body)


def read_key_set(written: bytes, algorithms: Sequence[str]) -> Iterator[SigningKey]:
    """The keys of a JWK Set that one of the algorithms fits. Others are passed over, as RFC 7517 (section 5) has it, and so are those that are
    broken, secret (`oct`), for encryption, or RSA keys of another length. Raises `NoKeySet`, `ValueError` and `RecursionError` if it is none."""
    document = json.loads(written)
    found = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(found, list) or len(found) > KEYS_MAX:
        raise NoKeySet("not a JWK Set")
    for jwk in found:
        try:
            key = _public_key(jwk)
        except Exception:  # libraries differ in how they say that a key is none
            continue
        fitting = frozenset(algorithm for algorithm in algorithms if _fits(algorithm, key))
        if fitting:
            yield SigningKey(key.kid, key, fitting)


def _public_key(jwk: dict[str, Any]) -> PublicKey:
    if jwk["kty"] == "RSA" and int.from_bytes(urlsafe_b64decode(jwk["n"].encode())).bit_length() not in RSA_BITS:
        raise NoKeySet("not a length for RSA")
    key = JWKRegistry.import_key({name: value for name, value in jwk.items() if name != "d"})
    if not isinstance(key, RSAKey | ECKey | OKPKey):
        raise NoKeySet("not a public key")
    key.check_key_op("verify")
    return key


def _fits(algorithm: str, key: PublicKey) -> bool:
    try:
        JWSRegistry.algorithms[algorithm].check_key(key)
    except JoseError:
        return False
    return True
