"""The customer's limit and the keys' own: told by the standard headers, and never in the way of a key that is known."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from service import RunningService, body, open_account, running


@pytest.mark.parametrize("backend", ["postgres", "memory", "redis"])
async def test_the_sixth_new_payment_at_once_is_refused_and_known_keys_never_are(
    database: str, tmp_path, backend: str, request: pytest.FixtureRequest
) -> None:
    open_account(database, "c_1", 100_000)
    url = {"REDIS_URL": request.getfixturevalue("redis_server").url} if backend == "redis" else {}
    with running(database, tmp_path, {"PAYNOW_RATE_LIMIT__BACKEND": backend, "PAYNOW_RATE_LIMIT__CUSTOMER": "1/m", **url}) as service:
        async with service.client() as client:
            answers = await asyncio.gather(*(client.post("/api/payments/decide", json=body("c_1", "1.00", f"k-{n}")) for n in range(20)))
            assert Counter(answer.status for answer in answers) == {200: 5, 429: 15}
            refused = next(answer for answer in answers if answer.status == 429)
            assert int(refused.headers["Retry-After"]) >= 1
            assert refused.headers["RateLimit-Policy"] == '"customer";q=5;w=300'
            assert refused.headers["RateLimit"].startswith('"customer";r=0;t=')
            assert (await refused.json())["code"] == "rate_limited"
            known = [n for n, answer in enumerate(answers) if answer.status == 200]
            replays = await asyncio.gather(*(client.post("/api/payments/decide", json=body("c_1", "1.00", f"k-{n}")) for n in known * 4))
            assert {answer.status for answer in replays} == {200}
            mismatch = await client.post("/api/payments/decide", json=body("c_1", "2.00", f"k-{known[0]}"))
            assert mismatch.status == 422
            open_account(database, "c_2", 100_000)
            assert (await client.post("/api/payments/decide", json=body("c_2"))).status == 200


@pytest.mark.parametrize("backend", ["postgres", "memory"])
async def test_one_key_fifty_times_at_once_takes_one_token(database: str, tmp_path, backend: str) -> None:
    open_account(database, "c_1", 100_000)
    with running(database, tmp_path, {"PAYNOW_RATE_LIMIT__BACKEND": backend, "PAYNOW_RATE_LIMIT__CUSTOMER": "1/m"}) as service:
        async with service.client() as client:
            answers = await asyncio.gather(*(client.post("/api/payments/decide", json=body("c_1")) for _ in range(50)))
            assert Counter(answer.status for answer in answers) == {200: 50}
            more = await asyncio.gather(*(client.post("/api/payments/decide", json=body("c_1", "1.00", f"new-{n}")) for n in range(10)))
            assert Counter(answer.status for answer in more) == {200: 4, 429: 6}


async def test_a_keys_own_rate_is_kept(service: RunningService, tmp_path) -> None:
    from commands import paynow

    made = paynow(tmp_path, service.dsn, "keys", "create", "--name", "slow", "--scopes", "accounts:read", "--rate", "3/m", "--json").json()
    open_account(service.dsn, "c_1", 100)
    async with service.client(**{"X-API-Key": made["key"]}) as client:
        answers = [await client.get("/api/accounts/c_1") for _ in range(5)]
        assert Counter(answer.status for answer in answers) == {200: 1, 429: 4}
        assert answers[-1].headers["RateLimit-Policy"].startswith('"api_key";q=1')


async def test_memory_with_two_workers_stops_the_boot(database: str, tmp_path) -> None:
    from commands import paynow

    ended = paynow(tmp_path, database, "serve", "--workers", "2", PAYNOW_RATE_LIMIT__BACKEND="memory")
    assert ended.code == 2
    assert "memory" in ended.err
    assert "one process" in ended.err
