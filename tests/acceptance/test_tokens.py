"""Tokens of an identity provider at the real door: which are taken, and everything that was ever tried to get a false one in."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from canaries import heard
from identity_provider import AUDIENCE, ISSUER, SUBJECT, IdentityProvider, claims_of, identity_provider, segment, signed
from paynow.http.schemas import ProblemSchema
from paynow.http.tokens import subject_id
from service import API_KEY, UNLIMITED, RunningService, body, open_account, running
from waiting import eventually_async, meanwhile

ACTOR = subject_id(b"the-hash-key-of-the-tests", ISSUER, SUBJECT)
Forgery = Callable[[IdentityProvider], str]


def environ_of(provider: IdentityProvider, **settings: str) -> dict[str, str]:
    settings = {"jwks_url": provider.url, "issuer": ISSUER, "audience": f"other,{AUDIENCE}", "clock_skew_s": "30", **settings}
    return {f"PAYNOW_AUTH__JWT__{name.upper()}": value for name, value in settings.items()}


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    """What it publishes besides must help nobody."""
    with identity_provider() as started:
        second = RSAKey.generate_key(2048, {"kid": "rsa-2"})
        secret = {"kty": "oct", "k": segment(b"s" * 32), "kid": "oct-1"}
        unknown = {"kty": "AKP", "alg": "ML-DSA-44", "pub": "x", "kid": "akp-1"}
        encrypting = {**started.encrypting.as_dict(private=False), "use": "enc"}
        started.published += [second, secret, unknown, encrypting, started.short, {"kty": "RSA"}, 5]
        yield started


@pytest.fixture(scope="module")
def module_environ(provider: IdentityProvider) -> dict[str, str]:
    return {**environ_of(provider), "PAYNOW_LOGGING__LEVEL": "TRACE"}


async def asked(service: RunningService, token: str, path: str = "/api/payments", **headers: str) -> tuple[int, dict[str, Any], str]:
    """The status, the answer and `WWW-Authenticate` of a request with this token and nothing else."""
    session = aiohttp.ClientSession(service.url, headers={"Authorization": f"Bearer {token}", **headers})
    async with session as client, client.get(path) as response:
        return response.status, json.loads(await response.text()), response.headers.get("WWW-Authenticate", "")


async def status(service: RunningService, token: str) -> int:
    return (await asked(service, token))[0]


# ---------------------------------------------------------------- what is taken


@pytest.mark.parametrize(("name", "alg"), [("rsa", "RS256"), ("ec", "ES256"), ("okp", "EdDSA")])
async def test_a_token_of_each_kind_of_key_is_taken(module_service: RunningService, provider: IdentityProvider, name: str, alg: str) -> None:
    assert await status(module_service, provider.token(getattr(provider, name), alg)) == 200


async def test_api_keys_are_taken_beside_tokens_in_either_header(module_service: RunningService, provider: IdentityProvider) -> None:
    assert await status(module_service, API_KEY) == 200
    async with module_service.client(Authorization=f"Bearer {provider.token(exp=1)}") as client, client.get("/api/payments") as response:
        assert response.status == 200
    async with module_service.client(**{"X-API-Key": provider.token()}) as client, client.get("/api/payments") as response:
        assert (response.status, (await response.json())["code"]) == (401, "not_authenticated"), "a token is a bearer's only"
    for wrong in ("pn_" + "a" * 72, "pn_"):
        answered, problem, challenge = await asked(module_service, wrong)
        assert (answered, problem["code"], challenge) == (401, "not_authenticated", 'Bearer realm="paynow"')


async def test_a_token_decides_by_its_scopes_and_no_others(module_service: RunningService, provider: IdentityProvider) -> None:
    open_account(module_service.dsn, "c_token", 10_000)
    token = provider.token(scope="openid payments:decide accounts:reader")
    async with aiohttp.ClientSession(module_service.url, headers={"Authorization": f"bearer  {token}"}) as client:
        async with client.post("/api/payments/decide", json=body("c_token")) as response:
            assert (response.status, (await response.json())["decision"]) == (200, "allow")
        async with client.get("/api/accounts/c_token") as response:
            assert (response.status, (await response.json())["code"]) == (403, "missing_scope")
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="paynow", error="insufficient_scope", scope="accounts:read"'


@pytest.mark.parametrize("scope", [None, "", 5, ["accounts:read", 5], {"payments:read": True}])
async def test_a_token_without_the_scope_may_do_nothing(module_service: RunningService, provider: IdentityProvider, scope: Any) -> None:
    assert await status(module_service, provider.token(scope=scope)) == 403


async def test_what_acts_is_a_hash_of_the_subject(module_service: RunningService, provider: IdentityProvider) -> None:
    token = provider.token(scope="lists:write")
    session = aiohttp.ClientSession(module_service.url, headers={"Authorization": f"Bearer {token}"})
    async with session as client, client.put("/api/lists/customer/c_x/block", json={"reason": "seen elsewhere"}) as response:
        assert (response.status, (await response.json())["author"]) == (200, ACTOR)
    (line,) = await meanwhile(lambda: [line for line in module_service.lines("request answered") if line.get("method") == "PUT"])
    assert line["key_id"] == ACTOR


# ---------------------------------------------------------------- what is not


def with_hmac(header: dict[str, Any], key: bytes) -> str:
    """Signed by hand, since no library signs with a public key as if it were a secret."""
    signing = f"{segment(header)}.{segment(claims_of())}"
    return f"{signing}.{segment(hmac.digest(key, signing.encode(), hashlib.sha256))}"


def of_another(provider: IdentityProvider, **header: Any) -> str:
    """Signed with a key that the identity provider does not have."""
    other = RSAKey.generate_key(2048, {"kid": "rsa-1"})
    return signed(other, {"alg": "RS256", "kid": "rsa-1", **header}, claims_of())


def parts(provider: IdentityProvider) -> list[str]:
    return provider.token().split(".")


FORGED: dict[str, Forgery] = {
    "alg none, unsigned": lambda idp: f"{segment({'alg': 'none'})}.{segment(claims_of())}.",
    "alg none under a kid": lambda idp: f"{segment({'alg': 'none', 'kid': 'rsa-1'})}.{segment(claims_of())}.",
    "alg NoNe": lambda idp: f"{segment({'alg': 'NoNe'})}.{segment(claims_of())}.",
    "no alg": lambda idp: f"{segment({'kid': 'rsa-1'})}.{segment(claims_of())}.",
    "alg that is a list": lambda idp: f"{segment({'alg': ['RS256']})}.{segment(claims_of())}.x",
    "HS256 with the public key as PEM": lambda idp: with_hmac({"alg": "HS256", "kid": "rsa-1"}, idp.rsa.as_pem(private=False)),
    "HS256 with the public key as DER": lambda idp: with_hmac({"alg": "HS256", "kid": "rsa-1"}, idp.rsa.as_der(private=False)),
    "HS256 with the modulus": lambda idp: with_hmac({"alg": "HS256", "kid": "rsa-1"}, str(idp.rsa.as_dict(private=False)["n"]).encode()),
    "HS256 with a published secret": lambda idp: idp.token(OctKey.import_key("s" * 32, {"kid": "oct-1"}), "HS256"),
    "RS256 with a published secret's kid": lambda idp: idp.token(header={"kid": "oct-1"}),
    "an algorithm that is not allowed": lambda idp: idp.token(alg="PS256"),
    "another key under a known kid": of_another,
    "a key of its own in the header": lambda idp: of_another(
        idp, jwk=RSAKey.generate_key(2048).as_dict(private=False), jku="https://evil.example/keys", x5u="https://evil.example/crt"
    ),
    "the kid of a key of another type": lambda idp: idp.token(header={"kid": "ec-1"}),
    "an unknown kid": lambda idp: idp.token(header={"kid": "unknown"}),
    "no kid where several keys fit": lambda idp: idp.token(header={"kid": None}),
    "a kid that is a number": lambda idp: idp.token(header={"kid": 1}),
    "a kid that is a path": lambda idp: idp.token(header={"kid": "../../dev/null"}),
    "a key for encryption": lambda idp: idp.token(idp.encrypting),
    "a short key": lambda idp: idp.token(idp.short),
    "crit": lambda idp: idp.token(header={"crit": ["exp"], "exp": 1}),
    "an empty crit": lambda idp: idp.token(header={"crit": []}),
    "b64": lambda idp: idp.token(header={"b64": True}),
    "other claims under the signature": lambda idp: ".".join([parts(idp)[0], segment(claims_of(sub="root")), parts(idp)[2]]),
    "no signature": lambda idp: ".".join([*parts(idp)[:2], ""]),
    "half a signature": lambda idp: ".".join([*parts(idp)[:2], parts(idp)[2][:172]]),
    "two parts": lambda idp: ".".join(parts(idp)[:2]),
    "four parts": lambda idp: ".".join([*parts(idp), "x"]),
    "JWE": lambda idp: ".".join([segment({"alg": "dir", "enc": "A128GCM"}), "", segment(b"iv"), segment(b"text"), segment(b"tag")]),
    "garbage": lambda idp: "garbage",
    "dots": lambda idp: "..",
    "umlauts": lambda idp: "\xe4.\xf6.\xfc",
    "a header that is a list": lambda idp: f"{segment(['alg', 'b64'])}.{segment(claims_of())}.x",
    "a header that is a text": lambda idp: f"{segment('alg')}.{segment(claims_of())}.x",
    "a header that nests deeply": lambda idp: f"{segment(b'[' * 5000)}.{segment(claims_of())}.x",
    "claims that nest deeply": lambda idp: signed(idp.rsa, {"alg": "RS256", "kid": "rsa-1"}, b"[" * 4000),
    "claims that are no object": lambda idp: signed(idp.rsa, {"alg": "RS256", "kid": "rsa-1"}, ["iss"]),
    "claims that are no JSON": lambda idp: signed(idp.rsa, {"alg": "RS256", "kid": "rsa-1"}, b"{"),
}

LACKS = "The token lacks an acceptable claim "
UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"exp": -3600}, "The token has expired"),
    "expired longer ago than the skew": ({"exp": -31}, "The token has expired"),
    "no exp": ({"exp": None}, f"{LACKS}exp"),
    "exp that is a text": ({"exp": "9999999999"}, f"{LACKS}exp"),
    "exp that is no number": ({"exp": float("nan")}, f"{LACKS}exp"),
    "exp without end": ({"exp": float("inf")}, f"{LACKS}exp"),
    "not valid yet": ({"nbf": 60}, f"{LACKS}nbf"),
    "issued in the future": ({"iat": 60}, f"{LACKS}iat"),
    "another issuer": ({"iss": ISSUER.removesuffix("/")}, f"{LACKS}iss"),
    "no issuer": ({"iss": None}, f"{LACKS}iss"),
    "issuers": ({"iss": [ISSUER]}, f"{LACKS}iss"),
    "another audience": ({"aud": f"{AUDIENCE}.evil.example"}, f"{LACKS}aud"),
    "other audiences": ({"aud": ["a", "b"]}, f"{LACKS}aud"),
    "no audience": ({"aud": None}, f"{LACKS}aud"),
    "an empty audience": ({"aud": []}, f"{LACKS}aud"),
    "no subject": ({"sub": None}, f"{LACKS}sub"),
    "an empty subject": ({"sub": ""}, f"{LACKS}sub"),
    "a subject that is a number": ({"sub": 5}, f"{LACKS}sub"),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
async def test_a_forged_token_is_refused_and_told_nothing(module_service: RunningService, provider: IdentityProvider, forge: Forgery) -> None:
    answered, problem, challenge = await asked(module_service, forge(provider))
    assert (answered, problem["code"], problem["detail"]) == (401, "invalid_token", "The bearer token is not accepted")
    assert ProblemSchema().validate(problem) == {}
    assert challenge == 'Bearer realm="paynow", error="invalid_token", error_description="The bearer token is not accepted"'


@pytest.mark.parametrize(("changes", "detail"), UNFIT.values(), ids=UNFIT.keys())
async def test_a_token_that_is_not_for_now_or_not_for_us_is_refused(
    module_service: RunningService, provider: IdentityProvider, changes: dict[str, Any], detail: str
) -> None:
    now = int(time.time())
    claims = {name: now + value if name in ("exp", "nbf", "iat") and isinstance(value, int) else value for name, value in changes.items()}
    answered, problem, challenge = await asked(module_service, provider.token(**claims))
    assert (answered, problem["code"], problem["detail"]) == (401, "invalid_token", detail)
    assert f'error_description="{detail}"' in challenge


async def test_a_token_that_is_longer_than_it_may_be_is_refused(module_service: RunningService, provider: IdentityProvider) -> None:
    assert await status(module_service, provider.token(padding="x" * 5000)) == 200
    assert await status(module_service, provider.token(padding="x" * 6200)) in (400, 401)


async def test_clocks_may_differ_by_the_skew(module_service: RunningService, provider: IdentityProvider) -> None:
    now = int(time.time())
    assert await status(module_service, provider.token(exp=now - 20)) == 200
    assert await status(module_service, provider.token(nbf=now + 20, iat=now + 20)) == 200


# ---------------------------------------------------------------- storms, and what is told


async def test_a_storm_of_unknown_keys_is_one_fetch_at_most(module_service: RunningService, provider: IdentityProvider) -> None:
    await status(module_service, provider.token())
    before = provider.fetches
    tokens = [provider.token(provider.ec, "ES256", header={"kid": f"unknown-{number}"}) for number in range(100)]
    for _ in range(2):
        answers = await asyncio.gather(*(status(module_service, token) for token in tokens))
        assert Counter(answers) == {401: 100}
    assert provider.fetches - before <= 1


async def test_no_token_and_no_subject_is_in_any_log_answer_or_metric(module_service: RunningService, provider: IdentityProvider) -> None:
    sent = [provider.token(), provider.token(exp=1), provider.token(header={"kid": "unknown"}), f"{segment({'alg': 'none'})}.{segment(claims_of())}."]
    told = []
    for token in sent:
        for path in ("/api/payments", "/api/metrics", "/nowhere"):
            _, problem, challenge = await asked(module_service, token, path)
            told.append(str(problem) + challenge)
    last = problem["requestId"]
    await meanwhile(lambda: any(last in line for line in module_service.log))
    async with module_service.client() as client, client.get("/metrics") as response:
        told.append(await response.text())
    everything = "\n".join([*told, *module_service.log])
    secrets = [SUBJECT, ISSUER, AUDIENCE, API_KEY, *(part for token in sent for part in token.split(".") if len(part) > 8)]
    assert heard(secrets, everything) == []
    assert 'paynow_jwks_fetches_total{outcome="ok"}' in everything
    assert not [line for line in module_service.log if '"level":"ERROR"' in line]


# ---------------------------------------------------------------- keys that change, and a provider that is gone


async def test_a_new_key_counts_and_the_old_one_ends_within_the_cache_time(database: str, tmp_path: Path) -> None:
    """Every worker of the service is asked: each answer has to be right."""
    with identity_provider() as provider, running(database, tmp_path, {**UNLIMITED, **environ_of(provider, cache_s="2")}) as service:
        old, new = provider.token(), provider.token(fresh := ECKey.generate_key("P-256", {"kid": "ec-2"}), "ES256")
        assert [await status(service, token) for token in (old, new)] == [200, 401]
        changed = time.monotonic()
        provider.published = [fresh]

        async def over() -> bool:
            return [await status(service, token) for token in (old, new)] == [401, 200]

        await eventually_async(over, within_s=10)
        assert time.monotonic() - changed < 2 + 1  # of the cache time, and what a busy machine takes


async def test_without_an_identity_provider_the_service_starts_and_api_keys_work(database: str, tmp_path: Path) -> None:
    with identity_provider() as provider:
        provider.answers = "down"
        environ = {**UNLIMITED, **environ_of(provider, cache_s="2", scope_claim="roles", rate="1/d")}
        environ["PAYNOW_AUTH__JWT__SCOPES"] = '{ "Payments Clerk" = ["payments:read"], "payments:read" = [] }'
        with running(database, tmp_path, environ) as service:
            answered, problem, _ = await asked(service, provider.token(roles=["Payments Clerk"]))
            assert (answered, problem["code"], problem["retryable"]) == (503, "signing_keys_unavailable", True)
            assert await status(service, provider.token(alg="PS256")) == 401, "what could never be accepted needs no keys to be refused"
            assert await status(service, API_KEY) == 200
            provider.answers = "keys"

            async def again() -> bool:
                return await status(service, provider.token(roles=["Payments Clerk", "Tea Maker"])) == 200

            await eventually_async(again)
            assert [line["level"] for line in service.lines("the signing keys cannot be fetched")] == ["WARNING"]
            assert service.lines("the signing keys can be fetched again")
            assert await status(service, provider.token(roles=["Payments Clerk"])) == 429, "the subject's limit counts over its tokens"
            assert await status(service, provider.token(sub="bob", roles=["payments:read"])) == 403, "with a mapping nothing stands for itself"
