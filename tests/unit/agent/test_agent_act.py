"""WRITE tools: called after the verdict, and never able to change it."""

from __future__ import annotations

import asyncio

import pytest
from agent_doubles import CASE_ID, PAYMENT, REVIEW, raises, says_fine, write_tool

from paynow.plugin_api import Effect, Tool, ToolError, text


async def create_case(context):
    return {"case_id": str(context.cases.stage(context.payment, context.verdict))}


async def test_a_write_tool_stages_a_case_under_the_verdict(bench):
    here = bench(Tool("createCase", Effect.WRITE, {"case_id": text()}, create_case))
    assert await here.act() == {"createCase": {"case_id": str(CASE_ID)}}
    assert here.cases.staged == [PAYMENT]
    assert here.steps() == [("createCase", 1, "ok", None)]


async def test_a_write_tool_is_told_the_verdict(bench):
    seen = []

    async def call(context):
        seen.append(context.verdict)
        return {"fine": True}

    await bench(write_tool(call)).act()
    assert seen == [REVIEW]


async def test_one_that_fails_stands_in_the_trace_and_nowhere_else(bench):
    here = bench(write_tool(raises(ValueError()), "bad"), write_tool(says_fine, "good"), limits={"attempts": 2, "backoff_ms": 0})
    assert await here.act() == {"good": {"fine": True}}
    assert [step for step in here.steps() if step[0] == "bad"] == [("bad", 1, "error", "ValueError"), ("bad", 2, "error", "ValueError")]
    assert {step["step"] for step in here.trace.steps} == {"tool"}
    assert here.meters.fallbacks == []


async def test_one_for_which_no_time_is_left_is_skipped(bench):
    here = bench(write_tool(says_fine))
    assert await here.act(deadline_s=0) == {}
    assert here.steps() == [("note", 1, "skipped", "deadline")]


async def test_without_write_tools_nothing_happens(bench):
    here = bench()
    assert await here.act() == {}


async def test_an_attempt_that_was_given_up_stages_no_case_behind_our_back(bench):
    tried = asyncio.Event()

    async def call(context):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            try:
                context.cases.stage(context.payment, context.verdict)
            finally:
                tried.set()

    here = bench(write_tool(call), limits={"timeout_ms": 20})
    assert await here.act() == {}
    await tried.wait()
    assert here.cases.staged == []


async def test_what_an_attempt_leaves_behind_can_use_nothing_after_its_answer(bench):
    left, acted = [], asyncio.Event()

    async def later(context):
        await acted.wait()
        context.cases.stage(context.payment, context.verdict)

    async def call(context):
        left.append(asyncio.create_task(later(context)))
        return {"fine": True}

    here = bench(write_tool(call))
    assert await here.act() == {"note": {"fine": True}}
    acted.set()
    with pytest.raises(ToolError, match="attempt_is_over"):
        await left[0]
    assert here.cases.staged == []
