"""READ tools that fail in every way that a stranger's code can: none of it harms another tool, another payment or the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace

import pytest
from agent_doubles import PAYMENT, Bench, raises, read_tool, says_fine

from paynow.agent import Deadline, Trace
from paynow.agent.toolbox import STRAYS_MAX
from paynow.plugin_api import ToolError


def without_end() -> None:
    without_end()


async def recurses(context):
    without_end()


async def cancels_itself(context):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


class OwnError(Exception):
    pass


class ToolErrorWithoutCode(ToolError):
    def __init__(self):
        pass


RAISED = {
    "an error": (raises(OwnError("card 4111111111111111")), "OwnError"),
    "SystemExit": (raises(SystemExit(3)), "SystemExit"),
    "KeyboardInterrupt": (raises(KeyboardInterrupt), "KeyboardInterrupt"),
    "GeneratorExit": (raises(GeneratorExit), "GeneratorExit"),
    "StopIteration": (raises(StopIteration(1)), "RuntimeError"),
    "MemoryError": (raises(MemoryError), "MemoryError"),
    "RecursionError": (recurses, "RecursionError"),
    "a group that holds an exit": (raises(BaseExceptionGroup("all", [SystemExit(1)])), "BaseExceptionGroup"),
    "a cancellation that nobody asked for": (raises(asyncio.CancelledError), "CancelledError"),
    "a cancellation of itself": (cancels_itself, "CancelledError"),
    "a time limit of its own": (raises(TimeoutError()), "TimeoutError"),
    "a code": (raises(ToolError("device_unknown")), "device_unknown"),
    "a code that is a sentence": (raises(ToolError("card 4111 is stolen")), "ToolError"),
    "a code with a line break": (raises(ToolError("stolen\n")), "ToolError"),
    "a code that is too long": (raises(ToolError("x" * 65)), "ToolError"),
    "a code that is no text": (raises(ToolError(42)), "ToolError"),
    "a ToolError that lacks its code": (raises(ToolErrorWithoutCode()), "ToolErrorWithoutCode"),
    "a class without a sane name": (raises(type("4111 1111", (Exception,), {})()), "error"),
    "no awaitable": (lambda context: {"fine": True}, "TypeError"),
    "a failing call before the first await": (lambda context: 1 // 0, "ZeroDivisionError"),
}


@pytest.mark.parametrize(("call", "code"), RAISED.values(), ids=RAISED.keys())
async def test_whatever_a_tool_raises_is_one_errors_code(bench, call, code):
    here = bench(read_tool(call, "bad"), read_tool(says_fine, "good"))
    gathered = await here.gather()
    assert gathered.floors == {"bad": "review"}
    assert gathered.outputs == {"good": {"fine": True}}
    assert ("bad", 1, "error", code) in here.steps()
    assert here.trace.steps[-1] == {"step": "fallback", "tool": "bad", "onFailure": "review"}
    assert here.meters.fallbacks == [("bad", "review")]
    assert "4111" not in str(here.trace.steps)


@pytest.mark.parametrize("exit_with", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
async def test_a_tool_that_exits_harms_no_other_payment(bench, exit_with):
    other_waits, exited = asyncio.Event(), asyncio.Event()

    async def call(context):
        if context.payment is PAYMENT:
            await other_waits.wait()
            exited.set()
            raise exit_with
        other_waits.set()
        await exited.wait()
        await asyncio.sleep(0)
        return {"fine": True}

    here = bench(read_tool(call))
    other = replace(PAYMENT, customer_id="c_other")
    failed, fine = await asyncio.gather(*(here.agent.gather(payment, Deadline(10, here.clock.monotonic), Trace()) for payment in (PAYMENT, other)))
    assert failed.floors == {"look": "review"}
    assert fine.outputs == {"look": {"fine": True}}


async def test_the_text_of_an_exception_is_in_no_log_field(bench, logged):
    await bench(read_tool(raises(OwnError("card 4111111111111111")))).gather()
    line = next(line for line in logged if line["message"] == "tool attempt failed")
    assert line["exception"].type is OwnError
    del line["exception"]
    assert (line["tool"], line["attempt"], line["error"]) == ("look", 1, "OwnError")
    assert "4111" not in str(line)


NONSENSE = {
    "nothing": (None, "not_a_mapping"),
    "a list": ([("fine", True)], "not_a_mapping"),
    "a text": ("fine", "not_a_mapping"),
    "an empty dict": ({}, "missing_fine"),
    "another field": ({"good": True}, "missing_fine"),
    "a field too many": ({"fine": True, "more": 1}, "undeclared_field"),
    "a key that is no text": ({"fine": True, 7: 1}, "undeclared_field"),
    "a whole number for a flag": ({"fine": 1}, "wrong_fine"),
    "None for a flag": ({"fine": None}, "wrong_fine"),
}


@pytest.mark.parametrize(("output", "code"), NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense_is_an_invalid_output(bench, output, code):
    async def call(context):
        return output

    here = bench(read_tool(call))
    assert (await here.gather()).floors == {"look": "review"}
    assert here.steps() == [("look", 1, "invalid", code)]
    assert "output" not in here.trace.steps[0]


async def test_a_tool_that_hangs_is_cancelled_at_its_time_limit(bench):
    cancelled = asyncio.Event()

    async def hangs(context):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    here = bench(read_tool(hangs, "slow"), read_tool(says_fine, "good"), limits={"timeout_ms": 20, "on_failure": "block"})
    gathered = await here.gather()
    assert (gathered.floors, gathered.outputs) == ({"slow": "block"}, {"good": {"fine": True}})
    assert ("slow", 1, "timeout", "time_limit") in here.steps()
    slow = next(step for step in here.trace.steps if step["tool"] == "slow")
    assert slow["durationMs"] >= 20
    await cancelled.wait()


async def test_a_tool_gets_no_more_time_than_the_deadline_leaves(bench):
    async def hangs(context):
        await asyncio.Event().wait()

    here = bench(read_tool(hangs), limits={"attempts": 3})
    assert (await here.gather(deadline_s=0.02)).floors == {"look": "review"}
    assert here.steps() == [("look", 1, "timeout", "deadline"), ("look", 2, "skipped", "deadline")]


async def test_a_deadline_that_has_passed_skips_every_tool(bench):
    here = bench(read_tool(says_fine, "one"), read_tool(says_fine, "other"))
    assert (await here.gather(deadline_s=0)).floors == {"one": "review", "other": "review"}
    assert here.steps() == [("one", 1, "skipped", "deadline"), ("other", 1, "skipped", "deadline")]


def refuses_to_end(release: asyncio.Event, ports_errors: list[str]):
    async def call(context):
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                try:
                    await context.accounts.balance("c_123", "USD")
                except ToolError as error:
                    ports_errors.append(error.code)
        return {"fine": True}

    return call


async def test_a_tool_that_swallows_its_cancellation_is_not_waited_for_and_may_use_nothing_more(bench):
    release, ports_errors = asyncio.Event(), []
    here = bench(read_tool(refuses_to_end(release, ports_errors)), limits={"timeout_ms": 20})
    assert (await here.gather()).floors == {"look": "review"}
    while not ports_errors:
        await asyncio.sleep(0)
    assert ports_errors == ["attempt_is_over"]
    assert here.store.asked == []
    release.set()


async def test_a_tool_with_too_many_attempts_that_would_not_end_is_skipped_until_they_have(bench):
    release = asyncio.Event()
    here = bench(read_tool(refuses_to_end(release, [])), limits={"timeout_ms": 20})
    await asyncio.gather(*(here.agent.gather(PAYMENT, Deadline(10, here.clock.monotonic), Trace()) for _ in range(STRAYS_MAX)))
    await here.gather()
    assert here.steps() == [("look", 1, "skipped", "strays")]
    release.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert (await here.gather()).outputs == {"look": {"fine": True}}


async def test_closing_ends_the_attempts_that_would_not_end():
    swallowed = []
    here = Bench(read_tool(refuses_to_end(asyncio.Event(), swallowed)), limits={"timeout_ms": 20})
    await here.gather()
    while not swallowed:
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 2
    await here.agent.close()
    assert len(asyncio.all_tasks()) == 1


async def test_a_breaker_that_failures_opened_skips_the_tool_and_its_fallback_holds(bench, logged):
    here = bench(read_tool(raises(OwnError), "bad"), read_tool(says_fine, "good"), breaker_calls_min=3, limits={"attempts": 2, "backoff_ms": 0})
    await here.gather()
    await here.gather()
    assert [step for step in here.steps() if step[0] == "bad"] == [("bad", 1, "error", "OwnError"), ("bad", 2, "skipped", "breaker_open")]
    gathered = await here.gather()
    assert (gathered.floors, gathered.outputs) == ({"bad": "review"}, {"good": {"fine": True}})
    assert ("bad", 1, "skipped", "breaker_open") in here.steps()
    assert ("bad", "open") in here.meters.breakers
    assert any(line["message"] == "breaker changed its state" and line["tool"] == "bad" and line["state"] == "open" for line in logged)


EXITS = """
import asyncio, sys, threading
sys.path.insert(0, {folder!r})
from agent_doubles import Bench, read_tool

async def swallows(context):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

def stuck(context):
    threading.Event().wait()

async def main():
    here = Bench(read_tool(swallows, "swallows"), read_tool(stuck, "stuck", blocking=True), limits={{"timeout_ms": 20}})
    print(sorted((await here.gather()).floors))
    await here.agent.close()

asyncio.run(main())
"""


def test_neither_a_stuck_thread_nor_a_swallowed_cancellation_keeps_the_process_alive():
    script = EXITS.format(folder=__file__.rpartition("/")[0])
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, "['stuck', 'swallows']"), ended.stderr
