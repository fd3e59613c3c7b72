"""Tools that fail in every way: the decision is never more permissive for it, and no other payment is harmed."""

from __future__ import annotations

import asyncio

import pytest

from database import execute
from service import audit, body, open_account
from waiting import eventually

TOOL = """
import asyncio, time
from paynow.plugin_api import Effect, Tool, flag, hookimpl

{function}

@hookimpl
def paynow_register_tools(settings):
    return [Tool("{name}", Effect.{effect}, {{"fine": flag()}}, call{blocking})]
"""
CONFIG = """
[plugins]
dirs = ["plugins"]
enabled = [{enabled}, "odd"]
[agent]
plan = [{plan}]
on_review = [{on_review}]
deadline_ms = 1500
breaker_calls_min = 1000
[agent.tools.{name}]
attempts = 3
timeout_ms = 300
backoff_ms = 1
on_failure = "{on_failure}"
"""

NONSENSE = {
    "none": "async def call(context): return None",
    "list": "async def call(context): return [1]",
    "wrong_type": 'async def call(context): return {"fine": "yes"}',
    "extra_field": 'async def call(context): return {"fine": True, "more": 1}',
    "missing_field": "async def call(context): return {}",
    "raises": "async def call(context): raise ValueError('secret 4111111111111111')",
    "exits": "async def call(context): raise SystemExit(3)",
    "interrupts": "async def call(context): raise KeyboardInterrupt",
    "hangs": "async def call(context): await asyncio.sleep(3600)",
    "swallows_cancellation": """
async def call(context):
    while True:
        try: await asyncio.sleep(3600)
        except asyncio.CancelledError: pass
""",
}

FAILS_FOR_ONE = """
    return await fails(context) if context.payment.payee_id == "p_0" else {"fine": True}
"""


def plugin(function: str, *, name: str = "odd", effect: str = "READ", blocking: bool = False) -> dict[str, str]:
    return {"odd": TOOL.format(function=function, name=name, effect=effect, blocking=", blocking=True" if blocking else "")}


def config(*, name: str = "odd", without: str = "", on_failure: str = "review", write: bool = False) -> str:
    builtin = {"getBalance": "get_balance", "getRiskSignals": "get_risk_signals", "createCase": "create_case"}
    enabled = ", ".join(f'"{plugin}"' for tool, plugin in builtin.items() if tool != without)
    reads = [tool for tool in ("getBalance", "getRiskSignals") if tool != without]
    plan = ", ".join(f'"{tool}"' for tool in [*reads, *([] if write else [name])])
    on_review = f'"{name}"' if write else '"createCase"'
    return CONFIG.format(enabled=enabled, plan=plan, on_review=on_review, name=name, on_failure=on_failure)


async def decide(service, **changes) -> dict:
    async with service.client() as client, client.post("/api/payments/decide", json=body(**changes)) as response:
        assert response.status == 200, await response.text()
        return await response.json()


def attempts(decision: dict, tool: str) -> list[str]:
    return [step["status"] for step in decision["agentTrace"] if step["step"] == "tool" and step["tool"] == tool]


@pytest.mark.parametrize("kind", NONSENSE)
async def test_a_failing_tool_means_its_fallback_and_harms_no_other_payment(plugin_service, kind: str) -> None:
    service = plugin_service(plugin(NONSENSE[kind]), config())
    open_account(service.dsn, "c_1", 10_000)
    decisions = await asyncio.gather(*(decide(service, key=f"k-{number}") for number in range(4)))
    for decision in decisions:
        assert decision["decision"] == "review"
        assert decision["degraded"]
        assert "ok" not in attempts(decision, "odd")
        assert attempts(decision, "getBalance") == ["ok"]
        assert [reason["code"] for reason in decision["reasons"]] == ["tool_failed"]
        assert decision["caseId"] is not None
    assert "4111111111111111" not in "\n".join(service.log) + str(decisions)


@pytest.mark.parametrize("kind", NONSENSE)
async def test_a_tool_that_fails_for_one_payment_leaves_those_beside_it_alone(plugin_service, kind: str) -> None:
    function = f"{NONSENSE[kind].strip()}\nfails = call\nasync def call(context):\n{FAILS_FOR_ONE}"
    service = plugin_service(plugin(function), config())
    open_account(service.dsn, "c_1", 10_000)
    one, *others = await asyncio.gather(*(decide(service, key=f"k-{number}", payeeId=f"p_{number}") for number in range(20)))
    assert (one["decision"], one["degraded"], "ok" in attempts(one, "odd")) == ("review", True, False)
    for decision in others:
        assert (decision["decision"], decision["degraded"], attempts(decision, "odd")) == ("allow", False, ["ok"])
    assert service.process.poll() is None
    assert "4111111111111111" not in "\n".join(service.log) + str([one, *others])


async def test_get_balance_failing_is_tried_three_times_and_blocks(plugin_service, tmp_path) -> None:
    failing = plugin("async def call(context): raise ValueError", name="getBalance")
    policy = tmp_path / "policy.toml"
    policy.write_text('default = "allow"\n')
    settings = config(name="getBalance", without="getBalance", on_failure="block")
    service = plugin_service(failing, settings, {"PAYNOW_POLICY__FILE": str(policy)})
    open_account(service.dsn, "c_1", 10_000)
    decision = await decide(service)
    assert decision["decision"] == "block"
    assert attempts(decision, "getBalance") == ["error", "error", "error"]
    assert decision["degraded"]


@pytest.mark.parametrize("kind", ["raises", "hangs"])
async def test_get_risk_signals_failing_or_hanging_means_review(plugin_service, tmp_path, kind: str) -> None:
    failing = plugin(NONSENSE[kind], name="getRiskSignals")
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\nid = "funds"\nwhen = "getBalance.available_minor < payment.amount_minor"\nthen = "block"\nmessage = "No funds"\n')
    settings = config(name="getRiskSignals", without="getRiskSignals")
    service = plugin_service(failing, settings, {"PAYNOW_POLICY__FILE": str(policy)})
    open_account(service.dsn, "c_1", 10_000)
    decision = await decide(service)
    assert decision["decision"] == "review"
    assert decision["degraded"]
    assert len(attempts(decision, "getRiskSignals")) == 3


async def test_create_case_failing_leaves_the_decision_and_the_completer_opens_the_case_later(plugin_service, tmp_path) -> None:
    flaky = f"""
from pathlib import Path
async def call(context):
    if not Path({str(tmp_path / "mended")!r}).exists():
        raise ValueError
    context.cases.stage(context.payment, context.verdict)
    return {{"fine": True}}
"""
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\nid = "large"\nwhen = "payment.amount_minor >= 500000"\nthen = "review"\nmessage = "Large"\n')
    settings = config(name="createCase", without="createCase", write=True)
    service = plugin_service(plugin(flaky, name="createCase", effect="WRITE"), settings, {"PAYNOW_POLICY__FILE": str(policy)})
    open_account(service.dsn, "c_1", 1_000_000)
    decision = await decide(service, amount="5000.00")
    assert decision["decision"] == "review"
    assert decision["caseId"] is None
    assert attempts(decision, "createCase") == ["error", "error", "error"]
    (tmp_path / "mended").touch()
    eventually(lambda: execute(service.dsn, "select count(*) from cases")[0][0] == 1, within_s=20)
    async with service.client() as client, client.get(f"/api/payments/{decision['paymentId']}") as response:
        assert (await response.json())["caseId"] is not None


async def test_a_blocking_tool_runs_on_a_thread_and_holds_nobody_up(plugin_service) -> None:
    elsewhere = "threading.current_thread() is not threading.main_thread()"
    blocking = f"import threading\ndef call(context):\n    time.sleep(0.2)\n    return {{'fine': {elsewhere}}}"
    service = plugin_service(plugin(blocking, blocking=True), config())
    open_account(service.dsn, "c_1", 10_000)
    decisions = await asyncio.gather(*(decide(service, key=f"k-{number}") for number in range(6)))
    assert {decision["decision"] for decision in decisions} == {"allow"}
    outputs = [step["output"] for decision in decisions for step in decision["agentTrace"] if step.get("tool") == "odd"]
    assert outputs == [{"fine": True}] * 6, "it ran on the event loop's thread"
    assert not service.lines("tool held the event loop")


async def test_a_tool_that_holds_the_loop_is_named_and_skipped(plugin_service) -> None:
    holding = 'async def call(context):\n    time.sleep(0.3)\n    return {"fine": True}'
    service = plugin_service(plugin(holding), config())
    open_account(service.dsn, "c_1", 10_000)
    async with service.client() as client:  # the first payment may miss its time limits for it: 503, and it may be asked again
        assert (await client.post("/api/payments/decide", json=body(key="k-1"))).status in (200, 503)
    second = await decide(service, key="k-2")
    assert attempts(second, "odd") == ["skipped"]
    assert {line["tool"] for line in service.lines("tool held the event loop")} == {"odd"}


async def test_postgresql_failing_under_a_tool_is_503_and_settles_nothing(own_server, tmp_path) -> None:
    from paynow.store import migrations
    from service import UNLIMITED, RunningService

    migrations.migrate(own_server.dsn)
    open_account(own_server.dsn, "c_1", 10_000)
    service = RunningService(own_server.dsn, tmp_path, UNLIMITED)
    try:
        execute(own_server.dsn, "alter function read_balances(text[], text[]) rename to gone")
        execute(
            own_server.dsn,
            "create function read_balances(p_customer text[], p_currency text[]) returns table (ordinal int, available bigint, reserved bigint) "
            "language plpgsql as $$ begin raise exception 'down' using errcode = '57P03'; end $$",
        )
        async with service.client() as client, client.post("/api/payments/decide", json=body()) as response:
            assert response.status == 503
            assert "Retry-After" in response.headers
        assert execute(own_server.dsn, "select count(*) from payments")[0][0] == 0
        execute(own_server.dsn, "drop function read_balances(text[], text[])")
        execute(own_server.dsn, "alter function gone(text[], text[]) rename to read_balances")
        assert (await decide(service))["decision"] == "allow"
    finally:
        assert service.stop() == 0


async def test_a_write_tool_that_opens_no_case_is_called_until_it_has_succeeded_and_no_more(plugin_service, tmp_path) -> None:
    calls = tmp_path / "calls"
    calls.touch()
    counting = f"""
from pathlib import Path
async def call(context):
    calls = Path({str(calls)!r})
    calls.write_text(calls.read_text() + context.payment.payee_id[-1])
    if context.payment.payee_id == "p_2" and len(calls.read_text()) < 6:
        raise ValueError
    return {{"fine": True}}
"""
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\nid = "large"\nwhen = "payment.amount_minor >= 500000"\nthen = "review"\nmessage = "Large"\n')
    service = plugin_service(plugin(counting, effect="WRITE"), config(write=True), {"PAYNOW_POLICY__FILE": str(policy)})
    open_account(service.dsn, "c_1", 1_000_000)
    await decide(service, amount="5000.00")
    await decide(service, amount="5000.00", key="k-2", payeeId="p_2")
    eventually(lambda: execute(service.dsn, "select count(*) from payments where case_pending")[0][0] == 0, within_s=20)
    assert calls.read_text() == "122222"
    assert audit(service.dsn, tmp_path)
