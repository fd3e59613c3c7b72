"""The watchdog: names the tool that held the loop, and opens its breaker."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from agent_doubles import HandTime, read_tool, says_fine
from loguru import logger

from paynow.agent.watchdog import Watchdog


def busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


async def test_a_tool_that_holds_the_loop_is_named_and_skipped_from_then_on(bench, logged):
    async def holds(context):
        busy(0.3)
        return {"fine": True}

    here = bench(read_tool(holds, "holds"), read_tool(says_fine, "good"), loop_hold_max_ms=100)
    assert (await here.gather()).outputs == {"holds": {"fine": True}, "good": {"fine": True}}
    held = next(line for line in logged if line["message"] == "tool held the event loop")
    assert held["tool"] == "holds"
    assert 290 < held["held_ms"] < 3000
    assert any(line["message"] == "tool is holding the event loop" and line["tool"] == "holds" for line in logged)
    assert ("holds", "open") in here.meters.breakers
    assert not any("good" in breaker and "open" in breaker for breaker in here.meters.breakers)
    assert (await here.gather()).floors == {"holds": "review"}
    assert ("holds", 1, "skipped", "breaker_open") in here.steps()


async def test_a_plain_function_that_holds_the_loop_before_its_first_await_is_named_too(bench, logged):
    time_by_hand = HandTime()

    def holds(context):
        time_by_hand.now_s += 0.2
        return {"fine": True}

    here = bench(read_tool(holds), time=time_by_hand, loop_hold_max_ms=100)
    await here.gather()
    assert here.steps() == [("look", 1, "error", "TypeError")]
    assert [line["held_ms"] for line in logged if line["message"] == "tool held the event loop"] == [200.0]


async def test_each_step_is_measured_by_itself_and_waiting_is_no_hold(bench, logged):
    time_by_hand = HandTime()

    async def patient(context):
        for _ in range(5):
            time_by_hand.now_s += 0.09
            await asyncio.sleep(0)
        return {"fine": True}

    async def elsewhere(context):
        return {"fine": True}

    here = bench(read_tool(patient, "patient"), read_tool(elsewhere, "other"), time=time_by_hand, loop_hold_max_ms=100)
    assert len((await here.gather()).outputs) == 2
    assert [line for line in logged if "event loop" in line["message"]] == []


@pytest.mark.parametrize("error", [ValueError, SystemExit])
async def test_a_hold_that_ends_in_an_exception_is_named_as_well(bench, logged, error):
    time_by_hand = HandTime()

    async def holds(context):
        time_by_hand.now_s += 1
        raise error

    await bench(read_tool(holds), time=time_by_hand, loop_hold_max_ms=100).gather()
    assert [line["held_ms"] for line in logged if line["message"] == "tool held the event loop"] == [1000.0]


async def test_a_hold_on_the_way_out_of_a_cancellation_is_named(bench, logged):
    time_by_hand, ended = HandTime(), asyncio.Event()

    async def holds(context):
        try:
            await asyncio.Event().wait()
        finally:
            time_by_hand.now_s += 1
            ended.set()

    here = bench(read_tool(holds), time=time_by_hand, loop_hold_max_ms=100, limits={"timeout_ms": 20})
    await here.gather()
    await ended.wait()
    assert [line["held_ms"] for line in logged if line["message"] == "tool held the event loop"] == [1000.0]


async def test_a_tool_is_named_while_it_still_holds_the_loop(bench):
    named = threading.Event()
    sink = logger.add(lambda message: named.set() if message.record["message"] == "tool is holding the event loop" else None)

    async def never_comes_back_by_itself(context):
        return {"fine": named.wait(10)}

    here = bench(read_tool(never_comes_back_by_itself), loop_hold_max_ms=50)
    assert (await here.gather()).outputs == {"look": {"fine": True}}
    logger.remove(sink)


async def test_a_tool_that_has_ended_is_not_named_however_long_the_loop_is_held_after_it(bench, logged):
    time_by_hand = HandTime()
    await bench(read_tool(says_fine), time=time_by_hand, loop_hold_max_ms=10).gather()
    time_by_hand.now_s += 100
    await asyncio.sleep(0.05)  # the watching thread looks every 5 ms
    assert [line for line in logged if "event loop" in line["message"]] == []


async def test_a_blocking_tool_holds_no_loop(bench, logged):
    here = bench(read_tool(lambda context: busy(0.15) or {"fine": True}, blocking=True), loop_hold_max_ms=100)
    assert (await here.gather()).outputs == {"look": {"fine": True}}
    assert [line for line in logged if "event loop" in line["message"]] == []


async def test_steps_pass_values_and_exceptions_on_as_await_does():
    watchdog = Watchdog(10, time.monotonic)
    future = asyncio.get_running_loop().create_future()

    async def asks():
        try:
            await future
        except KeyError as error:
            return await asyncio.sleep(0, error.args[0])

    asyncio.get_running_loop().call_soon(future.set_exception, KeyError("told"))
    assert await watchdog.steps("look", asks(), lambda held_s: None) == "told"
    watchdog.stop()
