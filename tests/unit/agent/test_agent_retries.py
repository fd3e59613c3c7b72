"""Another attempt: how often, after what wait, and never past the deadline."""

from __future__ import annotations

from random import Random

import pytest
from agent_doubles import HandTime, raises, read_tool

from paynow.agent.retry import Deadline, backoff_s
from paynow.plugin_api import ToolError


def failing_first(times: int, error: BaseException):
    attempts = []

    async def call(context):
        attempts.append(context.attempt)
        if len(attempts) <= times:
            raise error
        return {"fine": True}

    return call, attempts


async def test_what_failed_is_tried_again_after_waits_that_double(bench):
    time = HandTime()
    call, attempts = failing_first(3, ValueError())
    here = bench(read_tool(call), time=time, limits={"attempts": 4, "backoff_ms": 20})
    assert (await here.gather()).outputs == {"look": {"fine": True}}
    assert attempts == [1, 2, 3, 4]
    assert time.slept_s == pytest.approx([0.02, 0.04, 0.08])
    assert [step[2] for step in here.steps()] == ["error", "error", "error", "ok"]
    assert here.meters.attempts == [("look", "error")] * 3 + [("look", "ok")]
    assert here.meters.fallbacks == []


async def test_attempts_end_at_their_number_and_the_fallback_follows(bench):
    call, attempts = failing_first(9, ValueError())
    here = bench(read_tool(call), time=HandTime(), limits={"attempts": 3, "on_failure": "block"})
    assert (await here.gather()).floors == {"look": "block"}
    assert attempts == [1, 2, 3]
    assert here.steps() == [("look", number, "error", "ValueError") for number in (1, 2, 3)]
    assert here.trace.steps[-1] == {"step": "fallback", "tool": "look", "onFailure": "block"}


async def test_an_invalid_output_is_tried_again_like_an_error(bench):
    outputs = iter([None, {"fine": True}])

    async def call(context):
        return next(outputs)

    here = bench(read_tool(call), time=HandTime(), limits={"attempts": 2})
    assert (await here.gather()).outputs == {"look": {"fine": True}}
    assert [step[2] for step in here.steps()] == ["invalid", "ok"]


async def test_a_tool_that_says_another_attempt_is_of_no_use_is_not_tried_again(bench):
    here = bench(read_tool(raises(ToolError("no_such_device", retry=False))), time=HandTime(), limits={"attempts": 3})
    assert (await here.gather()).floors == {"look": "review"}
    assert here.steps() == [("look", 1, "error", "no_such_device")]


async def test_no_wait_goes_beyond_the_deadline(bench):
    time = HandTime()
    here = bench(read_tool(raises(ValueError())), time=time, limits={"attempts": 9, "backoff_ms": 100})
    await here.gather(deadline_s=0.4)
    assert time.slept_s == pytest.approx([0.1, 0.2])
    assert here.steps()[-1] == ("look", 4, "skipped", "deadline")


async def test_an_attempt_that_used_up_the_deadline_is_the_last(bench):
    time = HandTime()

    async def call(context):
        time.now_s += 10
        raise ValueError

    here = bench(read_tool(call), time=time, limits={"attempts": 3})
    await here.gather(deadline_s=1)
    assert here.steps() == [("look", 1, "error", "ValueError"), ("look", 2, "skipped", "deadline")]
    assert time.slept_s == []


def test_the_wait_is_spread_over_the_whole_range():
    waits = [backoff_s(3, 0.02, Random(seed)) for seed in range(200)]
    assert 0 <= min(waits) < 0.01
    assert 0.07 < max(waits) <= 0.08


def test_a_deadline_runs_from_when_it_is_made():
    time = HandTime()
    deadline = Deadline(1.5, time.clock().monotonic)
    time.now_s += 1
    assert deadline.left() == pytest.approx(0.5)
    time.now_s += 1
    assert deadline.left() == pytest.approx(-0.5)
