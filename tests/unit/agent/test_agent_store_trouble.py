"""PostgreSQL's trouble under a tool: the request ends with the store's own refusal, whatever the tool makes of it, and no breaker counts it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from agent_doubles import PAYMENT, HandTime, raises, read_tool, says_fine, write_tool

from paynow.errors import OutcomeUnknown, Overloaded, StoreUnavailable
from paynow.plugin_api import ToolError

TROUBLES = [StoreUnavailable(), OutcomeUnknown(), Overloaded()]


async def lets_it_pass(context):
    await context.accounts.balance("c_123", "USD")
    return {"fine": True}


async def swallows_it(context):
    try:
        await context.activity.activity(context.payment)
    except Exception:
        return {"fine": True}


async def wraps_it(context):
    try:
        await context.lists.listed("payee", "p_789")
    except Exception as error:
        raise ToolError("my_own_code") from error


async def exits_on_it(context):
    try:
        await context.accounts.balance("c_123", "USD")
    finally:
        raise SystemExit


async def says_nonsense_after_it(context):
    await asyncio.gather(context.accounts.balance("c_123", "USD"), return_exceptions=True)
    return 42


async def hangs_after_it(context):
    try:
        await context.accounts.balance("c_123", "USD")
    except Exception:
        await asyncio.Event().wait()


MADE_OF_IT = [lets_it_pass, swallows_it, wraps_it, exits_on_it, says_nonsense_after_it, hangs_after_it]


@pytest.mark.parametrize("call", MADE_OF_IT)
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.code)
async def test_trouble_ends_the_gather_whatever_the_tool_makes_of_it(bench, call, trouble):
    here = bench(read_tool(call), limits={"attempts": 3, "timeout_ms": 50}, breaker_calls_min=1)
    here.store.refusal = trouble
    with pytest.raises(type(trouble)) as raised:
        await here.gather()
    assert raised.value is trouble
    assert len(here.store.asked) == 1
    assert here.meters.fallbacks == []
    assert here.meters.breakers == [("look", "closed")]
    here.store.refusal = None


async def test_trouble_of_one_tool_cancels_the_others_at_once(bench):
    waits, cancelled = asyncio.Event(), asyncio.Event()

    async def waiting(context):
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def troubled(context):
        await waits.wait()
        return await lets_it_pass(context)

    here = bench(read_tool(waiting, "waiting"), read_tool(troubled, "troubled"))
    here.store.refusal = StoreUnavailable()
    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(2):
            await here.gather()
    await cancelled.wait()


async def test_of_two_troubles_the_first_is_told(bench):
    async def call(context):
        try:
            await context.accounts.balance("c_123", "USD")
        except Overloaded:
            here.store.hangs = True
            await context.accounts.balance("c_123", "USD")

    here = bench(read_tool(call), limits={"timeout_ms": 20})
    here.store.refusal = Overloaded()
    with pytest.raises(Overloaded):
        await here.gather()


async def test_trouble_of_two_tools_at_once_is_one_refusal_and_no_complaint(bench):
    here = bench(read_tool(lets_it_pass, "one"), read_tool(swallows_it, "other"))
    here.store.refusal = StoreUnavailable()
    with pytest.raises(StoreUnavailable):
        await here.gather()


async def test_an_attempt_whose_time_ran_out_while_postgresql_was_asked_is_postgresqls_trouble(bench):
    here = bench(read_tool(lets_it_pass), limits={"attempts": 3, "timeout_ms": 20}, breaker_calls_min=1)
    here.store.hangs = True
    with pytest.raises(StoreUnavailable) as raised:
        await here.gather()
    assert raised.value.retry_after_s == 1
    assert here.store.asked == ["balance"]
    assert here.meters.breakers == [("look", "closed")]


async def test_a_time_limit_after_postgresql_answered_is_the_tools_own(bench):
    async def call(context):
        await context.accounts.balance("c_123", "USD")
        await asyncio.Event().wait()

    here = bench(read_tool(call), limits={"timeout_ms": 20})
    assert (await here.gather()).floors == {"look": "review"}


async def test_a_refusal_that_no_port_raised_is_the_tools_own_error(bench):
    here = bench(read_tool(raises(StoreUnavailable())))
    assert (await here.gather()).floors == {"look": "review"}
    assert here.steps() == [("look", 1, "error", "StoreUnavailable")]


async def test_a_fault_of_a_port_that_is_no_refusal_is_the_tools_own_error(bench):
    here = bench(read_tool(lets_it_pass))
    here.store.refusal = KeyError("fault")
    assert (await here.gather()).floors == {"look": "review"}
    assert here.steps() == [("look", 1, "error", "KeyError")]


@pytest.mark.parametrize("ending", [StoreUnavailable(), asyncio.CancelledError()], ids=["trouble", "a cancelled request"])
async def test_a_breakers_probe_that_ends_so_makes_room_for_the_next(bench, ending):
    time, endings = HandTime(), [ValueError(), ending]

    async def call(context):
        now = endings.pop(0) if endings else None
        if isinstance(now, StoreUnavailable):
            here.store.refusal = now
            await context.accounts.balance("c_123", "USD")
        if isinstance(now, asyncio.CancelledError):
            request.cancel()
            await asyncio.Event().wait()
        if now is not None:
            raise now
        return {"fine": True}

    here = bench(read_tool(call), time=time, breaker_calls_min=1)
    await here.gather()
    assert here.meters.breakers[-1] == ("look", "open")
    time.now_s += 5
    request = asyncio.create_task(here.gather())
    with pytest.raises(type(ending)):
        await request
    assert here.meters.breakers[-1] == ("look", "half_open")
    assert (await here.gather()).outputs == {"look": {"fine": True}}
    assert here.meters.breakers[-1] == ("look", "closed")


async def test_trouble_under_a_write_tool_ends_the_request_too(bench):
    here = bench(write_tool(swallows_it))
    here.store.refusal = StoreUnavailable()
    with pytest.raises(StoreUnavailable):
        await here.act()


async def test_trouble_while_a_case_is_staged_ends_the_request_too(bench):
    async def call(context):
        try:
            context.cases.stage(context.payment, context.verdict)
        except Overloaded:
            return {"fine": True}

    here = bench(write_tool(call))
    here.cases.refusal = Overloaded()
    with pytest.raises(Overloaded):
        await here.act()


async def test_trouble_of_one_payment_is_not_anothers(bench):
    async def call(context):
        if context.payment is PAYMENT:
            await lets_it_pass(context)
        return {"fine": True}

    here = bench(read_tool(call), read_tool(says_fine, "other"))
    here.store.refusal = StoreUnavailable()
    troubled, fine = await asyncio.gather(here.gather(), here.gather(payment=replace(PAYMENT, customer_id="c_2")), return_exceptions=True)
    assert isinstance(troubled, StoreUnavailable)
    assert fine.outputs == {"look": {"fine": True}, "other": {"fine": True}}
