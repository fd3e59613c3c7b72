"""The built-in rate limiters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from limiter_contract import LIMIT, Later, LimiterContract, Take
from paynow.limit_share import LimitShare
from paynow.plugin_api import Grant, Limit, RateLimiter
from paynow.plugin_loader import load_plugins
from paynow.settings import Settings


class HandClock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def monotonic(self) -> float:
        return self.now_s

    async def later(self, seconds: float) -> None:
        self.now_s += seconds


async def no_store(kind: str, subject: str, limit: Limit) -> Grant:
    raise AssertionError("the memory limiter asks no store")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def module(settings_of: Callable[..., Settings]) -> ModuleType:
    load_plugins(settings_of(backend="memory"))
    return sys.modules["paynow_plugin_limiter_memory"]


class TestMemoryLimiter(LimiterContract):
    @pytest.fixture
    def take(self, module: ModuleType, clock: HandClock) -> Take:
        return module.MemoryLimiter(monotonic=clock.monotonic).take

    @pytest.fixture
    def later(self, clock: HandClock) -> Later:
        return clock.later


async def test_a_token_is_there_at_its_very_moment_however_the_rate_divides(module: ModuleType, clock: HandClock) -> None:
    for per_second in (3, 7, 0.1, 1 / 3, 1000):
        limiter, limit = module.MemoryLimiter(monotonic=clock.monotonic), Limit(per_second, 1)
        for _ in range(100):
            assert (await limiter.take("customer", "c_1", limit)).allowed
            refused = await limiter.take("customer", "c_1", limit)
            assert not refused.allowed
            await clock.later(refused.retry_after_s + 1e-9)


async def test_a_smaller_burst_counts_from_the_next_take(module: ModuleType, clock: HandClock) -> None:
    limiter = module.MemoryLimiter(monotonic=clock.monotonic)
    for _ in range(3):
        await limiter.take("customer", "c_1", LIMIT)
    refused = await limiter.take("customer", "c_1", Limit(per_second=1, burst=1))
    assert (refused.allowed, refused.remaining, refused.retry_after_s) == (False, 0, 3)


async def test_full_buckets_make_room_without_a_change(module: ModuleType, clock: HandClock) -> None:
    limiter = module.MemoryLimiter(subjects_max=2, monotonic=clock.monotonic)
    for subject in ("c_1", "c_2"):
        await limiter.take("customer", subject, LIMIT)
    await limiter.take("customer", "c_2", LIMIT)
    await clock.later(1)
    assert (await limiter.take("customer", "c_3", LIMIT)).allowed
    assert (await limiter.take("customer", "c_2", LIMIT)).remaining == 1


async def test_a_new_subject_is_refused_while_there_is_no_room_and_nobody_forgotten(module: ModuleType, clock: HandClock) -> None:
    limiter = module.MemoryLimiter(subjects_max=2, monotonic=clock.monotonic)
    for _ in range(4):
        for subject in ("c_1", "c_2"):
            await limiter.take("customer", subject, LIMIT)
    refused = await limiter.take("customer", "c_3", LIMIT)
    assert (refused.allowed, refused.remaining, refused.retry_after_s) == (False, 0, 1)
    assert not (await limiter.take("customer", "c_1", LIMIT)).allowed


async def test_looking_for_room_is_bounded_to_once_a_second(module: ModuleType, clock: HandClock) -> None:
    limiter = module.MemoryLimiter(subjects_max=1, monotonic=clock.monotonic)
    await limiter.take("customer", "c_1", Limit(per_second=2, burst=1))
    assert not (await limiter.take("customer", "c_2", LIMIT)).allowed
    await clock.later(0.9)
    assert not (await limiter.take("customer", "c_2", LIMIT)).allowed
    await clock.later(0.1)
    assert (await limiter.take("customer", "c_2", LIMIT)).allowed


async def test_no_more_subjects_are_held_than_allowed(module: ModuleType, clock: HandClock) -> None:
    limiter = module.MemoryLimiter(subjects_max=10, monotonic=clock.monotonic)
    grants = [await limiter.take("customer", f"c_{number}", LIMIT) for number in range(1000)]
    assert sum(grant.allowed for grant in grants) == 10


def test_what_the_limiters_promise(settings_of: Callable[..., Settings]) -> None:
    def made(backend: str) -> tuple[RateLimiter, bool]:
        maker = load_plugins(settings_of(backend=backend)).limiters[backend]
        return maker.make(no_store), maker.shared

    memory, memory_shared = made("memory")
    postgres, postgres_shared = made("postgres")
    assert (memory.name, memory.shared, memory_shared, memory.inside_claim) == ("memory", False, False, False)
    assert (postgres.name, postgres.shared, postgres_shared, postgres.inside_claim) == ("postgres", True, True, True)


async def test_the_postgres_limiter_takes_where_the_store_keeps_its_buckets(settings_of: Callable[..., Settings]) -> None:
    asked: list[tuple[str, str, Limit]] = []
    grant = Grant(allowed=True, remaining=1, retry_after_s=0, reset_s=1)

    async def take(kind: str, subject: str, limit: Limit) -> Grant:
        asked.append((kind, subject, limit))
        return grant

    limiter = load_plugins(settings_of()).limiters["postgres"].make(take)
    assert await limiter.take("api_key", "pn_1", LIMIT) is grant
    assert asked == [("api_key", "pn_1", LIMIT)]


async def taken(module: ModuleType, workers: int, limit: Limit, *, seconds: int) -> int:
    """How many of very many tries get through within so many seconds, over all workers with their shares of the memory limiter."""
    clock = HandClock()
    shares = [LimitShare(module.MemoryLimiter(monotonic=clock.monotonic), workers) for _ in range(workers)]
    allowed = 0
    for _ in range(seconds * 10):
        for share in shares:
            grants = [await share.take("customer", "c_1", limit) for _ in range(limit.burst + 1)]
            allowed += sum(grant.allowed for grant in grants)
        await clock.later(0.1)
    return allowed


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 6])
async def test_workers_together_give_no_more_than_one_process_would(module: ModuleType, workers: int) -> None:
    alone = await taken(module, 1, Limit(6.0, 6), seconds=10)
    assert alone - 6 <= await taken(module, workers, Limit(6.0, 6), seconds=10) <= alone


async def test_a_burst_smaller_than_the_workers_is_one_for_each(module: ModuleType) -> None:
    assert await taken(module, 4, Limit(0.001, 1), seconds=1) == 4
