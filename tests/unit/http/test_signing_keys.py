"""The keys of an identity provider over real HTTP, in a time that passes by hand: when they are fetched, and how long they and tokens count."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from identity_provider import AUDIENCE, ISSUER, IdentityProvider, identity_provider
from paynow.api_keys import sha256
from paynow.clock import Clock
from paynow.errors import InvalidToken, Refusal, SigningKeysUnavailable
from paynow.http import signing_keys, tokens
from paynow.http.signing_keys import ASK_AGAIN_AFTER_S, SigningKeys, read_key_set
from paynow.http.tokens import Tokens, subject_id
from paynow.settings import JwtSettings
from paynow.settings.load import load
from waiting import meanwhile

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
CACHE_S, STALE_S, SKEW_S = 300, 600, 30
TROUBLES = ("down", "slow", "an error", "a redirect", "too much", "no JSON", "nesting", "no set")


@pytest.fixture(scope="module")
def running_provider() -> Iterator[IdentityProvider]:
    with identity_provider() as started:
        yield started


@pytest.fixture
def provider(running_provider: IdentityProvider) -> Iterator[IdentityProvider]:
    published = running_provider.published
    running_provider.fetches = 0
    yield running_provider
    running_provider.answers, running_provider.published = "keys", published


class Door:
    """Tokens over the keys of the provider. `later` lets time pass; `naps` are the pauses of who follows the keys."""

    def __init__(self, provider: IdentityProvider, **changes: Any) -> None:
        self.past_s = 0.0
        self.naps: list[float] = []
        self.awake = asyncio.Event()
        self.fetched: Counter[str] = Counter()
        self.provider = provider
        settings: JwtSettings = dataclasses.replace(
            load(None, {}).settings.auth.jwt,
            **{
                "jwks_url": provider.url,
                "issuer": ISSUER,
                "audience": (AUDIENCE,),
                "clock_skew_s": SKEW_S,
                "cache_s": CACHE_S,
                "stale_s": STALE_S,
                "timeout_ms": 500,
                **changes,
            },
        )
        clock = Clock(now=lambda: NOW + timedelta(seconds=self.past_s), monotonic=lambda: 1000 + self.past_s, sleep=self._nap)
        self.keys = SigningKeys(settings, clock, lambda outcome, _: self.fetched.update([outcome]))
        self.tokens = Tokens(settings, self.keys, clock, b"a key")

    async def _nap(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.awake.clear()
        await self.awake.wait()

    def later(self, seconds: float) -> None:
        self.past_s += seconds

    def token(self, *given: Any, **changes: Any) -> str:
        now = int(NOW.timestamp() + self.past_s)
        return self.provider.token(*given, **{"iat": now, "exp": now + 600_000, **changes})

    async def answer(self, token: str) -> int:
        """The status that the door would give."""
        try:
            await self.tokens.caller(token, sha256(token))
        except Refusal as refusal:
            assert isinstance(refusal, InvalidToken | SigningKeysUnavailable)
            return refusal.status
        return 200


@pytest.fixture
async def door(provider: IdentityProvider) -> AsyncIterator[Door]:
    made = Door(provider)
    yield made
    await made.keys.close()


# ---------------------------------------------------------------- when keys are fetched


async def test_a_hundred_at_once_are_one_fetch_whether_no_key_is_there_or_an_unknown_one_is_named(door: Door) -> None:
    token = door.token()
    assert await asyncio.gather(*(door.answer(token) for _ in range(100))) == [200] * 100
    assert door.provider.fetches == 1
    door.later(ASK_AGAIN_AFTER_S)
    unknown = [door.token(header={"kid": f"unknown-{number}"}) for number in range(100)]
    assert await asyncio.gather(*map(door.answer, unknown)) == [401] * 100
    assert door.provider.fetches == 2
    assert await asyncio.gather(*map(door.answer, unknown)) == [401] * 100
    assert door.provider.fetches == 2, "they were asked for a moment ago"


async def test_a_new_key_is_found_by_its_first_token(door: Door) -> None:
    assert await door.answer(door.token()) == 200
    door.provider.published = [*door.provider.published, fresh := ECKey.generate_key("P-256", {"kid": "fresh"})]
    token = door.token(fresh, "ES256")
    assert await door.answer(token) == 401
    door.later(ASK_AGAIN_AFTER_S)
    assert await door.answer(token) == 200


async def test_what_names_no_new_key_makes_nobody_ask(door: Door) -> None:
    await door.answer(door.token())
    door.later(ASK_AGAIN_AFTER_S)
    for header in ({"kid": None}, {"kid": "ec-1"}, {"kid": 5}, {"kid": "unknown", "alg": "PS256"}, {"kid": "unknown", "crit": ["x"]}):
        assert await door.answer(door.token(header=header)) == (200 if header == {"kid": None} else 401), header
    assert door.provider.fetches == 1


async def test_keys_are_fetched_twice_in_their_time_and_soon_again_when_they_could_not_be(door: Door) -> None:
    following = asyncio.create_task(door.keys.follow())
    try:
        for answers, nap in (("keys", CACHE_S / 2), ("down", ASK_AGAIN_AFTER_S), ("down", ASK_AGAIN_AFTER_S), ("keys", CACHE_S / 2)):
            door.provider.answers = answers
            naps = len(door.naps)
            door.awake.set()
            await meanwhile(lambda naps=naps: len(door.naps) > naps)
            assert door.naps[-1] == nap, answers
    finally:
        following.cancel()
        await asyncio.wait([following])
    assert door.fetched == {"ok": 2, "error": 2}


async def test_nobody_waits_for_keys_that_are_not_needed_yet(door: Door) -> None:
    """A provider that hangs holds up those only who name a key that nobody knows, and those no longer than `timeout_ms`."""
    token = door.token()
    assert await door.answer(token) == 200
    door.later(ASK_AGAIN_AFTER_S)
    door.provider.answers = "slow"
    waiting = asyncio.create_task(door.answer(door.token(header={"kid": "unknown"})))
    await meanwhile(lambda: door.provider.fetches == 2)
    assert await door.answer(door.token(jti="another")) == 200
    assert not waiting.done()
    assert await waiting == 503
    assert door.fetched == {"ok": 1, "timeout": 1}


async def test_who_leaves_takes_the_fetch_of_the_others_not_along(door: Door) -> None:
    door.provider.answers = "slow"
    leaving, staying = (asyncio.create_task(door.answer(door.token())) for _ in range(2))
    await meanwhile(lambda: door.provider.fetches == 1)
    leaving.cancel()
    assert await staying == 503
    assert door.provider.fetches == 1


# ---------------------------------------------------------------- a provider in trouble


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_in_trouble_known_keys_count_until_they_are_too_old_and_unknown_ones_cannot_be_told(door: Door, trouble: str) -> None:
    assert await door.answer(door.token()) == 200
    door.provider.answers = trouble
    door.later(CACHE_S + STALE_S - 1)
    kept = door.token()
    assert await door.answer(kept) == 200
    assert await door.answer(door.token(header={"kid": "unknown"})) == 503, "the key may be a new one"
    assert await door.answer(door.token(header={"kid": "ec-1"})) == 401
    door.later(1)
    assert await door.answer(kept) == 503, "what was remembered ends too"
    assert await door.answer("garbage") == 401
    assert door.fetched.total() == 2, "and nobody asks again at once"
    door.later(ASK_AGAIN_AFTER_S)
    door.provider.answers = "keys"
    assert await door.answer(kept) == 200


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_without_any_keys_nothing_can_be_told(door: Door, trouble: str, logged: list[dict[str, Any]]) -> None:
    door.provider.answers = trouble
    for _ in range(3):
        assert await door.answer(door.token()) == 503
        door.later(ASK_AGAIN_AFTER_S)
    assert [line["level"] for line in logged if line["message"] == "the signing keys cannot be fetched"] == ["WARNING"]


async def test_a_redirect_is_not_followed(door: Door) -> None:
    door.provider.answers = "a redirect"
    await door.answer(door.token())
    assert door.provider.fetches == 1


async def test_a_key_that_is_gone_ends_with_the_next_fetch_also_for_tokens_that_are_remembered(door: Door) -> None:
    token, other = door.token(), door.token(door.provider.ec, "ES256")
    assert [await door.answer(one) for one in (token, other)] == [200, 200]
    door.provider.published = [door.provider.ec]
    door.later(ASK_AGAIN_AFTER_S)
    await door.answer(door.token(header={"kid": "unknown"}))
    assert [await door.answer(one) for one in (token, other)] == [401, 200]
    door.provider.published = []
    door.later(ASK_AGAIN_AFTER_S)
    await door.answer(token)
    assert await door.answer(other) == 401, "no keys at all is an answer too"


# ---------------------------------------------------------------- which keys count


def test_a_key_is_for_the_algorithms_of_its_type_and_its_own_alg() -> None:
    with identity_provider() as provider:
        provider.published = [
            provider.rsa,
            {**provider.rsa.as_dict(private=False), "alg": "PS256", "kid": "pss"},
            {**provider.rsa.as_dict(private=True), "kid": "private"},
            {**provider.rsa.as_dict(private=False), "key_ops": ["encrypt"], "use": "enc", "kid": "enc"},
            ECKey.generate_key("P-384", {"kid": "p384"}),
            provider.okp,
            provider.short,
            {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
            {"kty": "RSA", "n": 5, "e": "AQAB"},
            None,
        ]
        found = list(read_key_set(provider.key_set, ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"]))
    assert {key.kid: set(key.algorithms) for key in found} == {
        "rsa-1": {"RS256", "PS256"},
        "pss": {"PS256"},
        "private": {"RS256", "PS256"},
        "okp-1": {"EdDSA", "Ed25519"},
    }
    assert not any(key.key.is_private for key in found)


async def test_a_key_without_an_id_is_for_tokens_that_name_none_while_no_other_fits(provider: IdentityProvider) -> None:
    door = Door(provider)
    nameless = {name: value for name, value in provider.rsa.as_dict(private=False).items() if name != "kid"}
    provider.published = [nameless, provider.ec]
    assert await door.answer(door.token(header={"kid": None})) == 200
    provider.published = [nameless, RSAKey.generate_key(2048)]
    second = Door(provider)
    assert await second.answer(second.token(header={"kid": None})) == 401


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize(
    ("claims", "age_s", "status"),
    [
        ({"exp": 0}, SKEW_S - 1, 200),
        ({"exp": 0}, SKEW_S, 401),
        ({"nbf": SKEW_S}, 0, 200),
        ({"nbf": SKEW_S + 1}, 0, 401),
        ({"nbf": SKEW_S + 1}, 1, 200),
        ({"iat": SKEW_S + 1}, 0, 401),
    ],
)
async def test_times_are_right_to_the_second(door: Door, claims: dict[str, int], age_s: int, status: int) -> None:
    at = int(NOW.timestamp())
    token = door.token(**{name: at + value for name, value in claims.items()})
    door.later(age_s)
    assert await door.answer(token) == status


async def test_a_remembered_token_ends_with_its_own_time(door: Door) -> None:
    token = door.token(exp=int(NOW.timestamp()) + 10)
    for age_s, status in ((0, 200), (10 + SKEW_S - 0.5, 200), (0.5, 401)):
        door.later(age_s)
        assert await door.answer(token) == status


async def test_a_token_is_checked_once_in_a_minute(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = 0
    check = tokens.validate_compact

    def counted(*given: Any, **named: Any) -> bool:
        nonlocal checked
        checked += 1
        return check(*given, **named)

    monkeypatch.setattr(tokens, "validate_compact", counted)
    token = door.token()
    for age_s, times in ((0, 1), (59, 1), (1, 2)):
        door.later(age_s)
        assert [await door.answer(token) for _ in range(3)] == [200] * 3
        assert checked == times
    refused = door.token(exp=1)
    assert [await door.answer(refused) for _ in range(3)] == [401] * 3
    assert checked == 5, "what was refused is not remembered"


async def test_what_is_remembered_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REMEMBERED_MAX", 5)
    for number in range(20):
        assert await door.answer(door.token(door.provider.okp, "EdDSA", jti=str(number))) == 200
    assert len(door.tokens._remembered) == 5


@pytest.mark.parametrize(
    ("token_type", "typ", "status"),
    [
        ("at+jwt", "at+jwt", 200),
        ("at+jwt", "application/AT+JWT", 200),
        ("at+jwt", "JWT", 401),
        ("at+jwt", None, 401),
        ("at+jwt", 5, 401),
        ("", "x", 200),
    ],
)
async def test_the_type_of_token_that_is_asked_for_is_the_only_one(provider: IdentityProvider, token_type: str, typ: Any, status: int) -> None:
    door = Door(provider, token_type=token_type)
    assert await door.answer(door.token(header={"typ": typ})) == status


async def test_a_token_longer_than_8_kib_is_not_even_opened(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await door.answer(door.token(padding="x" * 5300)) == 200
    token = door.token(padding="x" * 5800)
    assert len(token) > 8192
    monkeypatch.setattr(tokens, "extract_compact", lambda *_, **__: pytest.fail("opened"))
    assert await door.answer(token) == 401


def test_the_limits_are_those_documented() -> None:
    assert (signing_keys.JWKS_BYTES_MAX, signing_keys.KEYS_MAX, tokens.REMEMBERED_S) == (256 * 1024, 100, 60)


def test_the_documented_command_finds_who_has_acted() -> None:
    commands = re.findall(r"```sh\n(.*?)\n```", (Path(__file__).parents[3] / "docs" / "authentication.md").read_text(), re.DOTALL)
    (command,) = (command for command in commands if "hmac" in command)
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True, env={**os.environ, "LOG_HASH_KEY": "a key"})
    assert done.stdout.strip() == subject_id(b"a key", "https://identity.example/", "alice")
