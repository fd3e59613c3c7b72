"""A limiter whose store fails is asked again by one request at a time, and what became of it is told once."""

from __future__ import annotations

import asyncio
from typing import Any

from paynow.limit_watch import LimitWatch
from paynow.plugin_api import Grant, Limit

LIMIT = Limit(5, 5)
GRANT = Grant(allowed=True, remaining=4, retry_after_s=0, reset_s=0.2)


class Store:
    """A limiter by hand: it answers, fails, or waits until it is let go."""

    name = "hand"
    shared = True
    inside_claim = False

    def __init__(self) -> None:
        self.fails = False
        self.asked = 0
        self.let_go: asyncio.Event | None = None
        self.closed = 0

    async def take(self, kind: str, subject: str, limit: Limit) -> Grant:
        self.asked += 1
        fails = self.fails
        if self.let_go is not None:
            await self.let_go.wait()
        if fails:
            raise ConnectionError
        return GRANT

    async def close(self) -> None:
        self.closed += 1


class Watched:
    """A watch over it, and all that it told. Time passes by hand."""

    def __init__(self, pause_s: float = 0.5) -> None:
        self.now_s = 1000.0
        self.store = Store()
        self.told: list[bool] = []
        self.watch = LimitWatch(self.store, action="local", changed=self.told.append, monotonic=lambda: self.now_s, pause_s=pause_s)

    async def take(self) -> str:
        try:
            return "ok" if await self.watch.take("customer", "c_1", LIMIT) is GRANT else "?"
        except Exception as error:
            return type(error).__name__


async def test_after_a_failure_nobody_asks_for_a_moment_and_then_one_does() -> None:
    watched = Watched()
    watched.store.fails = True
    assert [await watched.take() for _ in range(3)] == ["ConnectionError", "LimiterPaused", "LimiterPaused"]
    watched.now_s += 0.5
    assert [await watched.take() for _ in range(2)] == ["ConnectionError", "LimiterPaused"]
    watched.now_s += 0.4
    assert await watched.take() == "LimiterPaused"
    assert watched.store.asked == 2


async def test_while_one_asks_whether_it_is_well_again_nobody_waits_for_that() -> None:
    watched = Watched()
    watched.store.fails = True
    await watched.take()
    watched.now_s += 0.5
    watched.store.fails, watched.store.let_go = False, asyncio.Event()
    asking = asyncio.create_task(watched.take())
    await asyncio.sleep(0)
    assert [await watched.take() for _ in range(3)] == ["LimiterPaused"] * 3
    watched.store.let_go.set()
    assert await asking == "ok"
    assert await watched.take() == "ok"


async def test_one_that_asks_and_goes_away_lets_another_ask() -> None:
    watched = Watched()
    watched.store.fails = True
    await watched.take()
    watched.now_s += 0.5
    watched.store.fails, watched.store.let_go = False, asyncio.Event()
    asking = asyncio.create_task(watched.take())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    watched.store.let_go = None
    assert await watched.take() == "ok"


async def test_a_change_is_told_once_by_state_metric_and_log(logged: list[dict[str, Any]]) -> None:
    watched = Watched()
    assert watched.watch.state == "ok"
    watched.store.fails = True
    for _ in range(5):
        await watched.take()
        watched.now_s += 0.5
    assert (watched.watch.state, watched.told) == ("local", [True])
    watched.store.fails = False
    for _ in range(5):
        await watched.take()
    assert (watched.watch.state, watched.told) == ("ok", [True, False])
    down, back = logged
    assert (down["message"], down["level"], down["backend"], down["action"]) == ("the rate limiter's store is down", "ERROR", "hand", "local")
    assert (back["message"], back["backend"]) == ("the rate limiter's store is back", "hand")


async def test_what_began_before_a_change_says_nothing_about_the_time_after_it() -> None:
    watched = Watched()
    watched.store.let_go = slow = asyncio.Event()
    early = asyncio.create_task(watched.take())
    await asyncio.sleep(0)
    watched.store.fails = True
    late = asyncio.create_task(watched.take())
    await asyncio.sleep(0)
    watched.store.let_go = None
    await watched.take()
    slow.set()
    assert (await early, await late) == ("ok", "ConnectionError")
    assert watched.told == [True], "an answer from before the failure does not bring it back"
    watched.store.fails = False
    watched.now_s += 0.5
    assert await watched.take() == "ok"
    assert watched.told == [True, False]


async def test_a_failure_that_comes_late_does_not_bring_it_down_again() -> None:
    watched = Watched()
    watched.store.fails, watched.store.let_go = True, asyncio.Event()
    late = asyncio.create_task(watched.take())
    await asyncio.sleep(0)
    slow, watched.store.let_go = watched.store.let_go, None
    await watched.take()
    watched.now_s += 0.5
    watched.store.fails = False
    assert await watched.take() == "ok"
    slow.set()
    assert await late == "ConnectionError"
    assert (watched.watch.state, await watched.take()) == ("ok", "ok")


async def test_without_a_pause_everybody_goes_on_asking_and_a_change_is_told_all_the_same() -> None:
    watched = Watched(pause_s=0)
    watched.store.fails = True
    assert [await watched.take() for _ in range(3)] == ["ConnectionError"] * 3
    watched.store.let_go = asyncio.Event()
    asking = [asyncio.create_task(watched.take()) for _ in range(3)]
    await asyncio.sleep(0)
    watched.store.let_go.set()
    assert [await one for one in asking] == ["ConnectionError"] * 3
    watched.store.fails, watched.store.let_go = False, None
    assert [await watched.take() for _ in range(2)] == ["ok"] * 2
    assert watched.told == [True, False]


async def test_a_limiter_is_closed_if_it_can_be_whatever_goes_wrong_then() -> None:
    watched = Watched()
    await watched.watch.close()
    assert watched.store.closed == 1

    async def fail() -> None:
        raise ConnectionError

    watched.store.close = fail  # type: ignore[method-assign]
    await watched.watch.close()
    watched.store.close = None  # type: ignore[assignment]
    await watched.watch.close()


def test_it_is_what_the_limiter_is() -> None:
    watch = Watched().watch
    assert (watch.name, watch.shared, watch.inside_claim) == ("hand", True, False)
