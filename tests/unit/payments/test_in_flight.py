"""Requests of one process with the same key: one decides, the others wait for what it says."""

from __future__ import annotations

import asyncio

import pytest

from paynow.payments.in_flight import Held, InFlight

SLOT = ("c_1", "k-1")
HELD = Held(b"f" * 32, b"{}")
LONG_S = 30.0


@pytest.fixture
def underway() -> InFlight:
    return InFlight()


async def joining(underway: InFlight, count: int, slot: tuple[str, str] = SLOT, wait_s: float = LONG_S) -> list[asyncio.Task[Held | None]]:
    tasks = [asyncio.create_task(underway.join(slot, wait_s)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_free_slot_is_not_waited_for(underway: InFlight) -> None:
    assert not underway.taken(SLOT)
    assert await underway.join(SLOT, 0) is None


async def test_everyone_who_waits_gets_the_answer(underway: InFlight) -> None:
    underway.enter(SLOT)
    waiting = await joining(underway, 50)
    underway.leave(SLOT, HELD)
    assert await asyncio.gather(*waiting) == [HELD] * 50
    assert not underway.taken(SLOT)
    assert len(underway) == 0


async def test_a_slot_that_is_left_with_nothing_is_free_for_the_first_who_waited(underway: InFlight) -> None:
    """The loop of a request: whoever finds the slot free takes it, the others wait for that one."""
    entered: list[int] = []

    async def request(number: int) -> Held | None:
        while underway.taken(SLOT):
            if (held := await underway.join(SLOT, LONG_S)) is not None:
                return held
        underway.enter(SLOT)
        entered.append(number)
        await asyncio.sleep(0)
        held = HELD if len(entered) == 3 else None
        underway.leave(SLOT, held)
        return held

    underway.enter(SLOT)
    waiting = [asyncio.create_task(request(number)) for number in range(5)]
    await asyncio.sleep(0)
    underway.leave(SLOT, None)
    assert await asyncio.gather(*waiting) == [None, None, HELD, HELD, HELD]
    assert entered == [0, 1, 2]


async def test_who_has_waited_long_enough_is_told_so_and_disturbs_nobody(underway: InFlight) -> None:
    underway.enter(SLOT)
    patient = await joining(underway, 1)
    for wait_s in (0.01, 0, -1):
        with pytest.raises(TimeoutError):
            await underway.join(SLOT, wait_s)
    assert underway.taken(SLOT)
    underway.leave(SLOT, HELD)
    assert await patient[0] == HELD


async def test_one_who_waits_and_is_cancelled_takes_nothing_from_the_others(underway: InFlight) -> None:
    underway.enter(SLOT)
    leaving, staying = await joining(underway, 2)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    underway.leave(SLOT, HELD)
    assert await staying == HELD


@pytest.mark.parametrize("other", [("c_2", "k-1"), ("c_1", "k-2")])
async def test_another_customer_or_key_is_another_slot(underway: InFlight, other: tuple[str, str]) -> None:
    underway.enter(SLOT)
    assert not underway.taken(other)
    assert await underway.join(other, LONG_S) is None
    underway.enter(other)
    assert len(underway) == 2
    underway.leave(other, HELD)
    assert underway.taken(SLOT)


async def test_a_taken_slot_cannot_be_entered(underway: InFlight) -> None:
    underway.enter(SLOT)
    with pytest.raises(AssertionError):
        underway.enter(SLOT)


async def test_leaving_with_nobody_waiting_is_no_trouble(underway: InFlight) -> None:
    underway.enter(SLOT)
    underway.leave(SLOT, None)
    underway.enter(SLOT)
    underway.leave(SLOT, HELD)
    assert len(underway) == 0
