"""Blocking tools: on threads, a few at a time, without the loop's doors."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest
from agent_doubles import PAYMENT, Bench, read_tool, says_fine, write_tool

from paynow.agent import Deadline, Trace
from paynow.agent.threads import THREADS_MAX, Threads
from paynow.plugin_api import ToolError


async def test_a_blocking_tool_runs_on_a_thread_while_the_loop_goes_on(bench):
    loop_went_on = threading.Event()
    threads = []

    def blocks(context):
        threads.append(threading.current_thread())
        assert loop_went_on.wait(5)
        return {"fine": context.payment is PAYMENT}

    async def goes_on(context):
        loop_went_on.set()
        return {"fine": True}

    here = bench(read_tool(blocks, "blocks", blocking=True), read_tool(goes_on, "other"))
    gathered = await here.gather()
    assert gathered.outputs == {"blocks": {"fine": True}, "other": {"fine": True}}
    assert threads[0] is not threading.main_thread()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SystemExit(1), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (StopIteration(1), "RuntimeError"),
        (asyncio.CancelledError(), "CancelledError"),
        (MemoryError(), "MemoryError"),
        (ToolError("no_luck"), "no_luck"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_whatever_a_blocking_tool_raises_is_one_errors_code(bench, error, code):
    def call(context):
        raise error

    here = bench(read_tool(call, blocking=True), read_tool(says_fine, "good"))
    assert (await here.gather()).outputs == {"good": {"fine": True}}
    assert ("look", 1, "error", code) in here.steps()


async def test_nonsense_from_a_thread_is_an_invalid_output(bench):
    here = bench(read_tool(lambda context: None, blocking=True))
    await here.gather()
    assert here.steps() == [("look", 1, "invalid", "not_a_mapping")]


@pytest.mark.parametrize("port", ["accounts.balance", "activity.activity", "lists.listed", "cases.stage", "http.get"])
async def test_a_thread_has_no_ports(bench, port):
    def call(context):
        door, _, function = port.partition(".")
        getattr(getattr(context, door), function)
        return {"fine": True}

    here = bench(write_tool(call, blocking=True), limits={"attempts": 3})
    await here.act()
    assert here.steps() == [("note", 1, "error", "no_ports_on_a_thread")]


async def test_a_stuck_thread_is_a_timeout_and_all_of_them_stuck_an_error_at_once(bench):
    release, complaints = threading.Event(), []
    asyncio.get_running_loop().set_exception_handler(lambda loop, complaint: complaints.append(complaint))
    here = bench(read_tool(lambda context: {"fine": release.wait(20)}, blocking=True), limits={"timeout_ms": 20})
    traces = [Trace() for _ in range(THREADS_MAX)]
    await asyncio.gather(*(here.agent.gather(PAYMENT, Deadline(10, here.clock.monotonic), trace) for trace in traces))
    assert {trace.steps[0]["status"] for trace in traces} == {"timeout"}
    await here.gather()
    assert here.steps() == [("look", 1, "error", "threads_busy")]
    release.set()
    while not (await here.gather()).outputs:
        await asyncio.sleep(0)
    assert complaints == []


async def test_closing_the_agent_ends_its_threads():
    threads = []
    here = Bench(read_tool(lambda context: threads.append(threading.current_thread()) or {"fine": True}, blocking=True))
    await here.gather()
    await here.agent.close()
    await asyncio.to_thread(threads[0].join, 5)
    assert not threads[0].is_alive()


async def test_threads_are_used_again():
    threads = Threads("test")
    names = {await threads.run(lambda _: threading.get_ident(), None) for _ in range(20)}
    assert len(names) == 1
    threads.stop()


async def test_threads_end_when_they_are_stopped():
    threads = Threads("test-stops")
    thread = await threads.run(lambda _: threading.current_thread(), None)
    threads.stop()
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()


async def test_the_context_variables_of_the_request_are_seen_on_the_thread():
    request = ContextVar("request", default="none")
    request.set("r_1")
    threads = Threads("test")
    assert await threads.run(lambda _: request.get(), None) == "r_1"
    threads.stop()
