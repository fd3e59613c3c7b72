"""The limiter `redis` on a real Redis and a real Redis Cluster: exact over all who share it, and never in the way for long when it is down."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import redis

from limiter_contract import LIMIT, Later, LimiterContract, Take
from paynow.errors import ConfigurationRefused
from paynow.plugin_api import Grant, Limit, RateLimiter
from paynow.plugin_loader import load_plugins
from paynow.settings import Settings
from paynow.settings.load import load
from servers.redis import RedisCluster, RedisServer
from waiting import eventually_async

PATIENT_MS = 5000
"""For what is not about time: whatever else this machine does."""
TIMEOUT_MS = 200
NEVER_LONGER_S = 4 * TIMEOUT_MS / 1000 + 0.15
MANY = 1800
SLOW = Limit(per_second=0.001, burst=7)

LimiterOf = Callable[..., RateLimiter]


def settings_of(url: str | None, hash_key: str = "a-hash-key-of-the-tests", timeout_ms: int = PATIENT_MS) -> Settings:
    settings = load(None, {}).settings
    return replace(
        settings,
        rate_limit=replace(settings.rate_limit, backend="redis", redis_timeout_ms=timeout_ms),
        secrets=replace(settings.secrets, redis_url=url, log_hash_key=hash_key),
    )


@pytest.fixture
async def limiter_of() -> AsyncIterator[LimiterOf]:
    """Limiters as a boot makes them, each with connections of its own."""
    made: list[Any] = []

    async def no_store(kind: str, subject: str, limit: Limit) -> Grant:
        raise AssertionError("it asks no store but Redis")

    def make(url: str, **changes: Any) -> RateLimiter:
        made.append(load_plugins(settings_of(url, **changes)).limiters["redis"].make(no_store))
        return made[-1]

    yield make
    for limiter in made:
        await limiter.close()


def let_pass(server: RedisServer, seconds: float) -> None:
    """Every bucket is as it will be so many seconds later."""
    with redis.Redis(port=server.port, protocol=2) as client:
        for key in client.scan_iter():
            full_at, left_ms = int(client.get(key)), client.pttl(key)
            if left_ms <= seconds * 1000:
                client.delete(key)
            else:
                client.set(key, full_at - round(seconds * 1e6), px=left_ms - round(seconds * 1000))


class TestRedisLimiter(LimiterContract):
    @pytest.fixture
    def take(self, limiter_of: LimiterOf, redis_server: RedisServer) -> Take:
        return limiter_of(redis_server.url).take

    @pytest.fixture
    def later(self, redis_server: RedisServer) -> Later:
        async def later(seconds: float) -> None:
            let_pass(redis_server, seconds)

        return later


class TestRedisLimiterOnACluster(LimiterContract):
    @pytest.fixture
    def take(self, limiter_of: LimiterOf, redis_cluster: RedisCluster) -> Take:
        return limiter_of(redis_cluster.url).take

    @pytest.fixture
    def later(self, redis_cluster: RedisCluster) -> Later:
        async def later(seconds: float) -> None:
            for node in redis_cluster.nodes:
                let_pass(node, seconds)

        return later


# ---------------------------------------------------------------- shared


async def test_all_who_share_a_redis_get_one_burst_together(limiter_of: LimiterOf, redis_server: RedisServer) -> None:
    limiters = [limiter_of(redis_server.url) for _ in range(4)]
    customers = [f"c_{number}" for number in range(20)]
    takes = [limiter.take("customer", customer, SLOW) for _ in range(10) for limiter in limiters for customer in customers]
    allowed = Counter(customer for customer, grant in zip(customers * 40, await asyncio.gather(*takes), strict=True) if grant.allowed)
    assert allowed == dict.fromkeys(customers, 7)


async def test_a_cluster_spreads_customers_and_keeps_what_belongs_to_one_together(limiter_of: LimiterOf, redis_cluster: RedisCluster) -> None:
    limiter = limiter_of(redis_cluster.url)
    grants = await asyncio.gather(*(limiter.take(kind, f"c_{n}", SLOW) for n in range(60) for kind in ("customer", "api_key") for _ in range(8)))
    assert sum(grant.allowed for grant in grants) == 60 * 2 * 7
    held = [node.call("KEYS", "*") for node in redis_cluster.nodes]
    assert all(len(keys) > 10 for keys in held)
    tags = [Counter(re.findall("{.*}", key)[0] for key in keys) for keys in held]
    assert sum(map(len, tags)) == 60
    assert all(count == 2 for of_node in tags for count in of_node.values())


async def test_takes_that_wait_travel_together(limiter_of: LimiterOf, redis_server: RedisServer) -> None:
    """Counted where Redis reads from its connections."""
    limiter = limiter_of(redis_server.url)
    await asyncio.gather(*(limiter.take("customer", f"c_{n}", SLOW) for n in range(2)))

    def reads() -> int:
        return int(redis_server.call("INFO", "stats")["total_reads_processed"])

    before = reads()
    of_looking = reads() - before
    before = reads()
    await asyncio.gather(*(limiter.take("customer", f"c_{n}", SLOW) for n in range(100)))
    assert reads() - before - of_looking < 15


# ---------------------------------------------------------------- what lies in Redis


async def test_no_id_lies_in_redis_and_a_bucket_leaves_when_it_is_full(limiter_of: LimiterOf, redis_server: RedisServer) -> None:
    limiter = limiter_of(redis_server.url)
    grants = [await limiter.take("customer", "c_1", LIMIT) for _ in range(2)]
    (key,) = redis_server.call("KEYS", "*")
    assert re.fullmatch(r"paynow:limit:\{[0-9a-f]{32}\}:customer", key)
    assert grants[1].reset_s * 1000 - 300 < redis_server.call("PTTL", key) <= grants[1].reset_s * 1000 + 1
    await limiter_of(redis_server.url, hash_key="another-key-of-the-tests").take("customer", "c_1", LIMIT)
    assert len(redis_server.call("KEYS", "*")) == 2, "the hash is keyed"


async def test_a_refusal_writes_nothing(limiter_of: LimiterOf, redis_server: RedisServer) -> None:
    limiter = limiter_of(redis_server.url)
    for _ in range(7):
        await limiter.take("customer", "c_1", SLOW)
    before = redis_server.call("INFO", "commandstats")["cmdstat_set"]["calls"]
    assert not any(grant.allowed for grant in [await limiter.take("customer", "c_1", SLOW) for _ in range(5)])
    assert redis_server.call("INFO", "commandstats")["cmdstat_set"]["calls"] == before


async def test_a_redis_that_has_forgotten_the_script_is_told_it_again(limiter_of: LimiterOf, redis_server: RedisServer) -> None:
    limiter = limiter_of(redis_server.url)
    assert (await limiter.take("customer", "c_1", SLOW)).remaining == 6
    redis_server.call("SCRIPT", "FLUSH")
    grants = await asyncio.gather(*(limiter.take("customer", "c_1", SLOW) for _ in range(10)))
    assert sum(grant.allowed for grant in grants) == 6


# ---------------------------------------------------------------- when it is down


async def outcomes(limiter: RateLimiter, count: int = MANY) -> Counter[str]:
    """What many takes at once come to, more than many batches hold. None of them may take long."""
    began = time.monotonic()
    found = await asyncio.gather(*(limiter.take("customer", f"c_{n}", SLOW) for n in range(count)), return_exceptions=True)
    assert time.monotonic() - began < NEVER_LONGER_S
    return Counter(type(outcome).__name__ for outcome in found)


@pytest.mark.parametrize("query", ["", "?socket_timeout=30"])
async def test_a_redis_that_hangs_or_is_gone_fails_soon_for_all_who_wait_and_works_when_it_is_back(
    limiter_of: LimiterOf, redis_server: RedisServer, query: str
) -> None:
    limiter = limiter_of(redis_server.url + query, timeout_ms=TIMEOUT_MS)
    assert (await limiter.take("customer", "c_0", SLOW)).allowed
    redis_server.pause()
    assert await outcomes(limiter) == {"TimeoutError": MANY}
    redis_server.resume()
    assert (await limiter.take("customer", "c_0", SLOW)).allowed
    redis_server.stop()
    assert await outcomes(limiter) == {"ConnectionError": MANY}
    redis_server.start()
    assert (await limiter.take("customer", "c_0", SLOW)).allowed


async def test_an_answer_that_came_while_the_process_was_held_up_counts(limiter_of: LimiterOf, redis_server: RedisServer) -> None:
    limiter = limiter_of(redis_server.url, timeout_ms=TIMEOUT_MS)
    await limiter.take("customer", "c_1", SLOW)
    redis_server.pause()
    waiting = asyncio.ensure_future(limiter.take("customer", "c_1", SLOW))
    await asyncio.sleep(0.05)  # it is on its way
    redis_server.resume()
    time.sleep(3 * TIMEOUT_MS / 1000)
    assert (await waiting).allowed


async def test_a_cluster_that_loses_a_node_is_asked_who_has_its_customers_now(limiter_of: LimiterOf, own_redis_cluster: RedisCluster) -> None:
    limiter = limiter_of(own_redis_cluster.url, timeout_ms=TIMEOUT_MS)
    assert await outcomes(limiter, 100) == {"Grant": 100}
    first, lost, last = own_redis_cluster.nodes
    lost.stop()
    slots = own_redis_cluster.slots_of(1)
    for node in (first, last):
        node.call("CLUSTER", "DELSLOTSRANGE", *slots)
    first.call("CLUSTER", "ADDSLOTSRANGE", *slots)

    async def well() -> bool:
        return await outcomes(limiter, 100) == {"Grant": 100}

    await eventually_async(well)


async def test_a_user_with_few_rights_will_do_and_a_wrong_password_is_an_error(limiter_of: LimiterOf, redis_server: RedisServer) -> None:
    redis_server.call("ACL", "SETUSER", "limits", "on", ">secret", "~paynow:limit:*", "+eval", "+evalsha", "+get", "+set", "+time")
    try:
        allowed = limiter_of(redis_server.url.replace("redis://", "redis://limits:secret@"))
        assert (await allowed.take("customer", "c_1", SLOW)).allowed
        with pytest.raises(redis.AuthenticationError):
            await limiter_of(redis_server.url.replace("redis://", "redis://limits:wrong@")).take("customer", "c_1", SLOW)
    finally:
        redis_server.call("ACL", "DELUSER", "limits")


async def test_closing_closes_its_connections_and_who_waits_is_told(limiter_of: LimiterOf, redis_server: RedisServer) -> None:
    limiter: Any = limiter_of(redis_server.url)
    await limiter.take("customer", "c_1", SLOW)

    def connections() -> int:
        return int(redis_server.call("INFO", "clients")["connected_clients"])

    assert connections() == 2
    redis_server.pause()
    waiting = [asyncio.ensure_future(limiter.take("customer", f"c_{n}", SLOW)) for n in range(300)]
    await asyncio.sleep(0)
    await limiter.close()
    assert Counter(type(outcome).__name__ for outcome in await asyncio.gather(*waiting, return_exceptions=True)) == {"ConnectionError": 300}
    redis_server.resume()
    assert connections() == 1, "the one that looks"


# ---------------------------------------------------------------- at the boot


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (None, "REDIS_URL is not set"),
        ("localhost:6379", "REDIS_URL is not usable: expected redis://"),
        ("redis://:pa/ss-word@host:6379", "REDIS_URL is not usable: expected redis://"),
        ("redis+cluster://host:6379/3", "REDIS_URL names a database, but a cluster has only number 0"),
    ],
)
def test_a_redis_that_is_not_named_or_not_well_stops_the_boot_and_is_not_repeated(url: str | None, told: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        load_plugins(settings_of(url))
    (fault, *_) = refused.value.faults
    assert (fault.key, told in fault.message) == ("plugin limiter_redis", True)
    assert "ss-word" not in str(refused.value)
    assert "'pa'" not in str(refused.value)


def test_without_the_extra_the_boot_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "paynow.plugin_redis", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationRefused) as refused:
        load_plugins(settings_of("redis://127.0.0.1"))
    assert "pip install 'paynow[redis]'" in refused.value.faults[0].message


def test_what_it_promises() -> None:
    maker = load_plugins(settings_of("redis://127.0.0.1")).limiters["redis"]
    module: ModuleType = sys.modules["paynow_plugin_limiter_redis"]
    limiter = module.RedisLimiter
    assert (maker.shared, limiter.name, limiter.shared, limiter.inside_claim) == (True, "redis", True, False)
