"""Tokens (JWT, RFC 7519) of an identity provider: who they are of and what they may do. They are checked as RFC 8725 (best practices) asks.

It needs the extra `paynow[jwt]`, so nobody imports it who is not configured to take tokens.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from joserfc.errors import (
    BadSignatureError,
    ExpiredTokenError,
    InvalidClaimError,
    InvalidHeaderValueError,
    InvalidKeyIdError,
    InvalidPayloadError,
    JoseError,
    MissingClaimError,
    UnsupportedAlgorithmError,
    UnsupportedHeaderError,
)
from joserfc.jws import CompactSignature, JWSAlgModel, JWSRegistry, extract_compact, validate_compact
from joserfc.jwt import JWTClaimsRegistry
from loguru import logger

from paynow.api_keys import SCOPES
from paynow.clock import Clock
from paynow.errors import InvalidToken
from paynow.http.keyring import Caller
from paynow.http.signing_keys import SigningKeys
from paynow.observability.redaction import pseudonym
from paynow.settings import JwtSettings

TOKEN_LENGTH_MAX = 8192
REMEMBERED_S = 60
REMEMBERED_MAX = 10_000

_REFUSED = (JoseError, ValueError, TypeError, RecursionError)
"""What a token that is none, or not ours to accept, makes the parsers raise."""


class _Algorithms(JWSRegistry):
    """The algorithms that are allowed, without joserfc's warnings about them. What a header says beside what is checked here is passed over."""

    max_header_length = max_payload_length = max_signature_length = TOKEN_LENGTH_MAX

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(algorithms=allowed, strict_check_header=False)

    def get_alg(self, name: str) -> JWSAlgModel:
        if not isinstance(name, str) or name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError("not allowed")
        return self.algorithms[name]


class Tokens:
    """Checks presented tokens. One that was accepted is remembered for a minute, unless the keys change or it expires."""

    def __init__(self, settings: JwtSettings, keys: SigningKeys, clock: Clock, hash_key: bytes) -> None:
        """`hash_key` hides the subjects: they appear as a keyed hash."""
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._hash_key = hash_key
        self._algorithms = _Algorithms(settings.algorithms)
        self._token_type = _media_type(settings.token_type)
        self._claims = JWTClaimsRegistry(
            now=lambda: int(clock.now().timestamp()),
            leeway=settings.clock_skew_s,
            iss={"essential": True, "value": settings.issuer},
            sub={"essential": True},
            aud={"essential": True, "values": list(settings.audience)},
            exp={"essential": True},
        )
        self._stand_for = self._settings.scopes or {scope: frozenset({scope}) for scope in SCOPES}
        self._remembered: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        keys.changed = self._remembered.clear

    async def caller(self, presented: str, digest: bytes) -> Caller:
        """Whose token it is, and what it may do; `digest` is its SHA-256. Raises `InvalidToken` and `SigningKeysUnavailable`."""
        remembered = self._remembered.get(digest)
        if remembered is not None and self._keys.usable and self._clock.now().timestamp() < remembered[1]:
            return remembered[0]
        try:
            claims = await self._check(presented)
        except _REFUSED as error:
            logger.bind(error=type(error).__name__).debug("a token was refused")
            raise InvalidToken(_detail(error)) from None
        caller = Caller(
            subject_id(self._hash_key, self._settings.issuer, claims["sub"]),
            granted(claims.get(self._settings.scope_claim), self._stand_for),
            self._settings.rate,
        )
        self._remember(digest, caller, claims["exp"])
        return caller

    def _remember(self, digest: bytes, caller: Caller, expires: float) -> None:
        self._remembered[digest] = (caller, min(expires + self._settings.clock_skew_s, self._clock.now().timestamp() + REMEMBERED_S))
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)

    async def _check(self, presented: str) -> dict[str, Any]:
        """The claims of a token, of which nothing is believed before its signature."""
        signed, kid, algorithm = self._open(presented)
        key = await self._keys.find(kid, algorithm)
        if key is None:
            raise InvalidKeyIdError("no such key")
        if not validate_compact(signed, key, registry=self._algorithms):
            raise BadSignatureError
        claims = json.loads(signed.payload)
        if not isinstance(claims, dict):
            raise InvalidPayloadError
        self._claims.validate(claims)
        return claims

    def _open(self, presented: str) -> tuple[CompactSignature, str | None, str]:
        """The token taken apart, its key id and its algorithm. An extension that has to be understood (`crit`) is none of ours."""
        if len(presented) > TOKEN_LENGTH_MAX:
            raise InvalidPayloadError("too long")
        signed = extract_compact(presented.encode("ascii"), registry=self._algorithms)
        header: object = signed.headers()
        if not isinstance(header, dict):
            raise InvalidHeaderValueError("not an object")
        if "crit" in header or "b64" in header:
            raise UnsupportedHeaderError("crit")
        algorithm, kid, token_type = header["alg"], header.get("kid"), header.get("typ")
        self._algorithms.get_alg(algorithm)
        if not isinstance(kid, str | None):
            raise InvalidHeaderValueError("kid")
        if self._token_type and (not isinstance(token_type, str) or _media_type(token_type) != self._token_type):
            raise InvalidHeaderValueError("typ")
        return signed, kid, algorithm


def subject_id(hash_key: bytes, issuer: str, subject: str) -> str:
    """What stands for a subject wherever the id of an API key would: a keyed hash, since a subject may be a name or an address."""
    return f"jwt{pseudonym(hash_key, 'subject', f'{issuer} {subject}')}"


def granted(value: object, stand_for: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The scopes of a claim: words with spaces between (RFC 8693, section 4.2) or a list of words. Those that mean nothing here give nothing."""
    if isinstance(value, str):
        names = value.split(" ")
    else:
        names = [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
    return frozenset(scope for name in names for scope in stand_for.get(name, ()))


def _media_type(written: str) -> str:
    """`typ` as it is compared (RFC 7515, section 4.1.9)."""
    return written.lower().removeprefix("application/")


def _detail(error: Exception) -> str:
    """What may be told of a token that was really signed by whom it should be; of all others no more than that they are refused."""
    match error:
        case ExpiredTokenError():
            return "The token has expired"
        case MissingClaimError() | InvalidClaimError():
            return f"The token lacks an acceptable claim {error.claim}"
    return ""
