"""Turns: so many at once, in their order, and a quick no where too many wait."""

from __future__ import annotations

import asyncio

import pytest

from paynow.errors import Overloaded
from paynow.turns import Turns


async def test_so_many_have_a_turn_at_once_and_the_others_come_in_their_order() -> None:
    turns, inside, seen, leave = Turns(at_once_max=2, waiting_max=10, wait_max_s=10), set(), [], asyncio.Event()

    async def work(number: int) -> None:
        async with turns.take():
            inside.add(number)
            seen.append((number, len(inside)))
            await leave.wait()
            inside.discard(number)

    working = [asyncio.create_task(work(number)) for number in range(6)]
    while len(seen) < 2:
        await asyncio.sleep(0)
    assert inside == {0, 1}
    leave.set()
    await asyncio.gather(*working)
    assert [number for number, _ in seen] == list(range(6))
    assert max(count for _, count in seen) == 2


async def test_who_comes_when_too_many_wait_or_waits_too_long_is_told_so_and_takes_no_turn() -> None:
    turns = Turns(at_once_max=1, waiting_max=1, wait_max_s=0.05)
    async with turns.take():

        async def wait() -> None:
            async with turns.take():
                raise AssertionError("there is no turn")

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await wait()
        with pytest.raises(Overloaded):
            await waiting
    async with turns.take():
        pass


async def test_a_turn_is_given_back_by_who_fails_or_is_cancelled() -> None:
    turns = Turns(at_once_max=1, waiting_max=10, wait_max_s=10)
    with pytest.raises(ZeroDivisionError):
        async with turns.take():
            _ = 1 / 0
    async with turns.take():
        waiting = asyncio.create_task(turns.take().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with turns.take():
        pass
