"""Observing hooks: told in time, told in full, and without any power over the payment."""

from __future__ import annotations

import asyncio

import pytest
from agent_doubles import PAYMENT, HandTime, raises, read_tool, says_fine

from paynow.plugin_api import ToolCall, hookimpl

LOOK = ToolCall(PAYMENT.payment_id, "look")


class Notes:
    """A plugin that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple] = []

    @hookimpl
    def paynow_tool_call_started(self, call):
        self.told.append(("started", call))

    @hookimpl
    def paynow_tool_retry_scheduled(self, error, wait_s, call, attempt):
        self.told.append(("retry", call, attempt, round(wait_s, 6), error))

    @hookimpl
    def paynow_tool_call_finished(self, outcome):
        self.told.append(("finished", outcome.status, outcome.attempts, outcome.duration_ms))


class Raises:
    """A plugin that raises whatever it is told."""

    error: type[BaseException] = ValueError

    def __init__(self) -> None:
        self.times = 0

    @hookimpl
    def paynow_tool_call_started(self):
        self.times += 1
        raise self.error

    @hookimpl
    def paynow_tool_call_finished(self):
        raise self.error


async def test_a_call_is_told_from_its_start_over_its_retries_to_its_end(bench):
    notes, time = Notes(), HandTime()
    await bench(read_tool(raises(ValueError())), plugins=(notes,), time=time, limits={"attempts": 3, "backoff_ms": 20}).gather()
    assert notes.told == [
        ("started", LOOK),
        ("retry", LOOK, 1, 0.02, "ValueError"),
        ("retry", LOOK, 2, 0.04, "ValueError"),
        ("finished", "error", 3, 60.0),
    ]


async def test_a_tool_that_is_skipped_only_ends(bench):
    notes = Notes()
    await bench(read_tool(says_fine), plugins=(notes,)).gather(deadline_s=0)
    assert [told[:3] for told in notes.told] == [("finished", "skipped", 0)]


async def test_attempts_that_were_made_before_a_skip_are_counted(bench):
    notes, time = Notes(), HandTime()
    here = bench(read_tool(raises(ValueError())), plugins=(notes,), time=time, limits={"attempts": 9, "backoff_ms": 100})
    await here.gather(deadline_s=0.25)
    assert notes.told[-1][:3] == ("finished", "skipped", 2)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
async def test_an_observer_that_raises_changes_nothing_and_is_named_once_for_each_type(bench, logged, error):
    notes, bad = Notes(), Raises()
    bad.error = error
    here = bench(read_tool(says_fine), plugins=(notes, bad))
    for _ in range(3):
        assert (await here.gather()).outputs == {"look": {"fine": True}}
    assert bad.times == 3
    assert [told[0] for told in notes.told] == ["started", "finished"] * 3
    named = [(line["plugin"], line["hook"], line["error"]) for line in logged if line["message"] == "observing plugin raised"]
    assert named == [("Raises", "paynow_tool_call_started", error.__name__), ("Raises", "paynow_tool_call_finished", error.__name__)]


async def test_observers_are_told_in_pluggys_order(bench):
    told = []

    class First:
        @hookimpl
        def paynow_tool_call_started(self):
            told.append("first")

    class Last:
        @hookimpl
        def paynow_tool_call_started(self):
            told.append("last")

    class Foremost:
        @hookimpl(tryfirst=True)
        def paynow_tool_call_started(self):
            told.append("foremost")

    await bench(read_tool(says_fine), plugins=(Foremost(), First(), Last())).gather()
    assert told == ["foremost", "last", "first"]


async def test_what_an_observer_of_retries_raises_does_not_stop_the_retry(bench):
    class OnRetry:
        @hookimpl
        def paynow_tool_retry_scheduled(self):
            raise SystemExit

    here = bench(read_tool(raises(ValueError())), plugins=(OnRetry(),), time=HandTime(), limits={"attempts": 3})
    await here.gather()
    assert len(here.steps()) == 3


async def test_nothing_is_prepared_when_nobody_listens(bench):
    agent = bench(read_tool(says_fine)).agent
    assert not agent._started
    assert not agent._retry_scheduled
    assert not agent._finished
