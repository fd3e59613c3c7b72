"""An identity provider for tests, on a thread of its own: its keys over HTTP, as a JWK Set, and tokens of every kind."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSAlgModel, JWSRegistry, serialize_compact
from joserfc.util import urlsafe_b64encode

ISSUER = "https://identity.example/"
AUDIENCE = "https://paynow.example"
SUBJECT = "alice@example.com"


class _Any(JWSRegistry):
    """Signs whatever it is told to."""

    def get_alg(self, name: str) -> JWSAlgModel:
        return self.algorithms[name]

    def check_header(self, header: dict[str, Any]) -> None:
        pass


class IdentityProvider:
    """`published` are the keys it shows, `answers` is how: `keys`, or the name of a trouble. `fetches` counts who asked."""

    def __init__(self) -> None:
        self.rsa = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
        self.ec = ECKey.generate_key("P-256", {"kid": "ec-1"})
        self.okp = OKPKey.generate_key("Ed25519", {"kid": "okp-1"})
        self.encrypting = RSAKey.generate_key(2048, {"kid": "encrypting"})
        raw = generate_private_key(public_exponent=65537, key_size=1024)
        self.short = RSAKey(raw, raw, {"kid": "short"})
        self.published: list[Any] = [self.rsa, self.ec, self.okp]
        self.answers = "keys"
        self.fetches = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._runner: web.AppRunner | None = None
        self._released = asyncio.Event()
        self._run(self._start())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys"

    @property
    def key_set(self) -> bytes:
        public = [key.as_dict(private=False) if isinstance(key, RSAKey | ECKey | OKPKey) else key for key in self.published]
        return json.dumps({"keys": public}).encode()

    def stop(self) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/keys", self._keys)
        app.router.add_get("/moved", self._keys)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        assert self._runner is not None
        self._released.set()
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _keys(self, request: web.Request) -> web.StreamResponse:
        self.fetches += 1
        match self.answers if request.path == "/keys" else "keys":
            case "down":
                assert request.transport is not None
                request.transport.abort()
            case "slow":
                await self._released.wait()
            case "an error":
                return web.Response(status=500, body=self.key_set)
            case "a redirect":
                raise web.HTTPFound("/moved")
            case "too much":
                return web.Response(body=self.key_set + b" " * 300_000)
            case "no JSON":
                return web.Response(body=b"<html>")
            case "nesting":
                return web.Response(body=b"[" * 100_000)
            case "no set":
                return web.Response(body=b'{"keys": 5}')
        return web.Response(body=self.key_set)

    def token(self, key: Any = None, alg: str = "RS256", *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token that would be accepted but for the changes; None takes a claim or a part of the header away."""
        key = key or self.rsa
        return signed(key, {"alg": alg, "kid": key.kid, **(header or {})}, claims_of(**claims))


def claims_of(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE, "iat": now, "exp": now + 600, "scope": "payments:read accounts:read", **changes}
    return {name: value for name, value in claims.items() if value is not None}


def signed(key: Any, header: dict[str, Any], claims: Any) -> str:
    """Any claims under any header, signed with this key."""
    header = {name: value for name, value in header.items() if value is not None}
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return serialize_compact(header, payload, key, registry=_Any())


def segment(value: Any) -> str:
    """A part of a token that is made by hand."""
    return urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode()


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()
    try:
        yield provider
    finally:
        provider.stop()
