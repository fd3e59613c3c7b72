"""READ tools that answer: side by side, with what they are handed and what is kept of what they say."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from agent_doubles import PAYMENT, read_tool, says_fine

from paynow.plugin_api import Activity, Balance, Effect, Tool, ToolError, flag, real, whole
from paynow.store.records import Seen


async def test_outputs_stand_under_their_tools_names_and_in_the_trace(bench):
    async def balance(context):
        money = await context.accounts.balance(context.payment.customer_id, context.payment.currency)
        return {"reserved_minor": money.reserved_minor, "available_minor": money.available_minor}

    fields = {"available_minor": whole(minimum=0), "reserved_minor": whole(minimum=0)}
    here = bench(Tool("getBalance", Effect.READ, fields, balance), read_tool(says_fine))
    gathered = await here.gather()
    assert gathered.outputs == {"getBalance": {"available_minor": 50_000, "reserved_minor": 100}, "look": {"fine": True}}
    assert gathered.floors == {}
    first = next(step for step in here.trace.steps if step["tool"] == "getBalance")
    assert first.pop("durationMs") >= 0
    assert first == {
        "step": "tool",
        "tool": "getBalance",
        "attempt": 1,
        "status": "ok",
        "output": {"available_minor": 50_000, "reserved_minor": 100},
    }
    assert list(first["output"]) == ["available_minor", "reserved_minor"]
    assert sorted(here.meters.attempts) == [("getBalance", "ok"), ("look", "ok")]


async def test_tools_are_in_flight_at_the_same_time(bench):
    left, right = asyncio.Event(), asyncio.Event()

    async def one(context):
        left.set()
        await right.wait()
        return {"fine": True}

    async def other(context):
        right.set()
        await left.wait()
        return {"fine": False}

    gathered = await bench(read_tool(one, "one"), read_tool(other, "other")).gather()
    assert gathered.outputs == {"one": {"fine": True}, "other": {"fine": False}}


async def test_outputs_stand_in_the_plans_order_whoever_answers_first(bench):
    second_has_answered = asyncio.Event()

    async def slow(context):
        await second_has_answered.wait()
        return {"fine": True}

    async def quick(context):
        second_has_answered.set()
        return {"fine": True}

    here = bench(read_tool(slow, "slow"), read_tool(quick, "quick"))
    assert list((await here.gather()).outputs) == ["slow", "quick"]
    assert [step["tool"] for step in here.trace.steps] == ["quick", "slow"]


async def test_an_empty_plan_gathers_nothing(bench):
    here = bench()
    gathered = await here.gather()
    assert (gathered.outputs, gathered.floors, here.trace.steps) == ({}, {}, [])


async def test_a_tool_is_handed_the_payment_the_ports_and_the_time_it_has(bench):
    seen = []

    async def call(context):
        seen.append(context)
        await context.activity.activity(context.payment)
        await context.lists.listed("payee", context.payment.payee_id)
        return {"fine": True}

    here = bench(read_tool(call), limits={"timeout_ms": 300})
    await here.gather()
    await here.gather(deadline_s=0.2)
    context, pressed = seen
    assert (context.payment, context.attempt, context.verdict, context.http) == (PAYMENT, 1, None, here.http)
    assert here.store.asked == ["activity", "listed"] * 2
    assert context.deadline_s == pytest.approx(0.3)
    assert pressed.deadline_s < 0.2


async def test_a_tools_log_lines_carry_its_name_and_plugin(bench, logged):
    async def call(context):
        context.log.info("looked")
        return {"fine": True}

    await bench(read_tool(call)).gather()
    line = next(line for line in logged if line["message"] == "looked")
    assert (line["tool"], line["plugin"]) == ("look", __name__)


async def test_a_read_tool_cannot_stage_a_case(bench):
    async def call(context):
        context.cases.stage(context.payment, None)

    here = bench(read_tool(call), limits={"attempts": 3})
    assert (await here.gather()).floors == {"look": "review"}
    assert here.steps() == [("look", 1, "error", "cases_are_for_write_tools")]


async def test_what_a_tool_keeps_of_its_output_cannot_change_the_record(bench):
    mine = {"fine": True}

    async def call(context):
        return mine

    here = bench(read_tool(call))
    gathered = await here.gather()
    mine["fine"] = "changed"
    assert gathered.outputs == {"look": {"fine": True}}
    assert here.trace.steps[0]["output"] == {"fine": True}


async def test_a_whole_number_in_a_real_field_becomes_a_float(bench):
    async def call(context):
        return {"score": 1, "seen": True}

    here = bench(Tool("rate", Effect.READ, {"score": real(), "seen": flag()}, call))
    score = (await here.gather()).outputs["rate"]["score"]
    assert (score, type(score)) == (1.0, float)


async def test_cancelling_the_request_cancels_its_tools_and_counts_for_nothing(bench):
    under_way, cancelled = asyncio.Event(), []

    async def call(context):
        under_way.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(context.payment)
            raise

    here = bench(read_tool(call, "one"), read_tool(call, "other"), breaker_calls_min=1)
    request = asyncio.create_task(here.gather())
    await under_way.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    while len(cancelled) < 2:
        await asyncio.sleep(0)
    assert here.meters.breakers == [("one", "closed"), ("other", "closed")]
    assert here.trace.steps == []


async def test_a_gather_of_two_trivial_tools_costs_little(bench):
    here = bench(read_tool(says_fine, "one"), read_tool(says_fine, "other"))
    best_s = 1.0
    for _ in range(5):
        began = time.process_time()
        for _ in range(200):
            await here.gather()
        best_s = min(best_s, (time.process_time() - began) / 200)
    began = time.process_time()
    for _ in range(200):
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
    yardstick_s = (time.process_time() - began) / 200
    assert best_s < 25 * yardstick_s  # four times was measured; this catches a step change only


SEEN = Seen(Balance(7, 3), Activity(*range(11), True, "none", "none", *range(9)))


async def test_what_the_claim_has_seen_need_not_be_read(bench):
    async def asks(context):
        balance = await context.accounts.balance(context.payment.customer_id, context.payment.currency)
        activity = await context.activity.activity(context.payment)
        return {"available_minor": balance.available_minor, "attempts_1m": activity.attempts_1m}

    here = bench(Tool("one", Effect.READ, {"available_minor": whole(), "attempts_1m": whole()}, asks))
    gathered = await here.gather(seen=SEEN)
    assert gathered.outputs == {"one": {"available_minor": 7, "attempts_1m": 0}}
    assert here.store.asked == []


async def test_what_it_has_not_seen_is_read_and_so_is_everything_by_who_tries_again(bench):
    said = []

    async def asks(context):
        await context.accounts.balance("c_somebody_else", context.payment.currency)
        await context.accounts.balance(context.payment.customer_id, "XXX")
        await context.activity.activity(replace(context.payment, payee_id="p_other"))
        said.append((await context.accounts.balance(context.payment.customer_id, context.payment.currency)).available_minor)
        if context.attempt == 1:
            raise ToolError("once_more", retry=True)
        return {"fine": True}

    here = bench(read_tool(asks, "one"), limits={"attempts": 2})
    await here.gather(seen=SEEN)
    assert said == [7, 50_000]
    assert here.store.asked == ["balance", "balance", "activity", "balance", "balance", "activity", "balance"]
