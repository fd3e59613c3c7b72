"""What every rate limiter grants, whatever keeps its buckets: run against the memory of a process and against PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from paynow.plugin_api import Grant, Limit

Take = Callable[[str, str, Limit], Awaitable[Grant]]
Later = Callable[[float], Awaitable[None]]

LIMIT = Limit(per_second=1, burst=3)
SOON = 0.3
"""How much time, in seconds, real calls between two looks may have taken."""


class LimiterContract:
    """To be inherited. The fixture `take` asks the limiter, `later` lets so many seconds pass for it."""

    async def test_a_full_bucket_grants_its_burst_and_no_more(self, take: Take) -> None:
        assert [(await take("customer", "c_1", LIMIT)).allowed for _ in range(5)] == [True, True, True, False, False]

    async def test_the_tokens_left_are_counted_down(self, take: Take) -> None:
        assert [(await take("customer", "c_1", LIMIT)).remaining for _ in range(4)] == [2, 1, 0, 0]

    async def test_a_refusal_says_when_the_next_token_is_there(self, take: Take, later: Later) -> None:
        for _ in range(3):
            await take("customer", "c_1", LIMIT)
        refused = await take("customer", "c_1", LIMIT)
        assert refused.retry_after_s == pytest.approx(1, abs=SOON)
        await later(refused.retry_after_s)
        assert (await take("customer", "c_1", LIMIT)).allowed

    async def test_there_is_no_token_before_its_time(self, take: Take, later: Later) -> None:
        for _ in range(3):
            await take("customer", "c_1", LIMIT)
        await later(1 - SOON)
        assert not (await take("customer", "c_1", LIMIT)).allowed

    async def test_nothing_has_to_be_waited_for_while_tokens_are_left(self, take: Take) -> None:
        assert (await take("customer", "c_1", LIMIT)).retry_after_s == 0

    async def test_the_last_token_says_when_the_next_is_there(self, take: Take) -> None:
        for _ in range(2):
            await take("customer", "c_1", LIMIT)
        last = await take("customer", "c_1", LIMIT)
        assert last.allowed
        assert last.retry_after_s == pytest.approx(1, abs=SOON)

    async def test_a_refusal_takes_nothing(self, take: Take, later: Later) -> None:
        for _ in range(30):
            await take("customer", "c_1", LIMIT)
        await later(3)
        assert [(await take("customer", "c_1", LIMIT)).allowed for _ in range(4)] == [True, True, True, False]

    async def test_a_bucket_is_never_fuller_than_its_burst(self, take: Take, later: Later) -> None:
        await take("customer", "c_1", LIMIT)
        await later(1000)
        assert [(await take("customer", "c_1", LIMIT)).allowed for _ in range(4)] == [True, True, True, False]

    async def test_reset_is_the_time_until_the_bucket_is_full(self, take: Take) -> None:
        assert (await take("customer", "c_1", LIMIT)).reset_s == pytest.approx(1, abs=SOON)
        assert (await take("customer", "c_1", LIMIT)).reset_s == pytest.approx(2, abs=SOON)

    async def test_every_subject_and_every_kind_has_a_bucket_of_its_own(self, take: Take) -> None:
        for _ in range(4):
            await take("customer", "c_1", LIMIT)
        assert (await take("customer", "c_2", LIMIT)).remaining == 2
        assert (await take("api_key", "c_1", LIMIT)).remaining == 2

    async def test_takes_at_once_get_the_burst_together(self, take: Take) -> None:
        slow = Limit(per_second=0.01, burst=7)
        grants = await asyncio.gather(*(take("customer", "c_1", slow) for _ in range(40)))
        assert sum(grant.allowed for grant in grants) == 7

    async def test_rates_below_one_a_second_are_exact(self, take: Take, later: Later) -> None:
        hourly = Limit(per_second=2 / 3600, burst=1)
        assert (await take("customer", "c_1", hourly)).allowed
        assert (await take("customer", "c_1", hourly)).retry_after_s == pytest.approx(1800, abs=SOON)
        await later(1799)
        assert not (await take("customer", "c_1", hourly)).allowed
        await later(1)
        assert (await take("customer", "c_1", hourly)).allowed
