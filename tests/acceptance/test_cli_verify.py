"""`paynow explain --verify` over a mixed past: failing tools, lists, several policies, money that is gone, and tools that are no more."""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path

from commands import paynow
from database import execute
from service import RunningService, body, open_account, running

PAYMENTS = int(os.environ.get("PAYNOW_TEST_MIXED_PAYMENTS", "1000"))
"""Of the mixed run; it takes a while with many."""
FLAKY = """
from paynow.plugin_api import Effect, Tool, hookimpl, choice, flag, real, text, whole

async def call(context):
    draw = int(context.payment.payment_id.int >> 20) % 10
    if draw == 0:
        raise ValueError
    if draw == 1:
        return {"score": "high"}
    return {"score": draw / 7, "kind": "phone" if draw % 2 else "desk", "age": draw, "fine": draw > 4, "label": "é" * draw}

OUTPUT = {"score": real(minimum=0), "kind": choice("phone", "desk"), "age": whole(minimum=0), "fine": flag(), "label": text()}

@hookimpl
def paynow_register_tools(settings):
    return [Tool("getDevice", Effect.READ, OUTPUT, call)]
"""
CONFIG = """
[plugins]
dirs = ["plugins"]
enabled = ["get_balance", "get_risk_signals", "create_case"{more}]
[agent]
plan = ["getBalance", "getRiskSignals"{tool}]
breaker_calls_min = 10000
{limits}
[policy]
file = "policy.toml"
[rate_limit]
customer = "off"
"""
LIMITS = """
[agent.tools.getDevice]
attempts = 2
backoff_ms = 1
on_failure = "{on_failure}"
"""
RULES = """
default = "{default}"

[[rule]]
id = "listed"
when = 'getRiskSignals.payee_list == "block" || getRiskSignals.customer_list == "block"'
then = "block"
message = "On the block list"

[[rule]]
id = "large_{limit}"
when = 'payment.amount_minor > {limit} && getRiskSignals.payee_list != "allow"'
then = "review"
message = "A large amount"
"""
DEVICE = """
[[rule]]
id = "odd_device"
when = 'getDevice.score > 0.8 && !getDevice.fine || getDevice.label.contains("éééé") && getDevice.age / (getDevice.age - 4) > 1'
then = "{then}"
message = "An odd device"
"""


def with_device(on_failure: str) -> str:
    return CONFIG.format(more=', "get_device"', tool=', "getDevice"', limits=LIMITS.format(on_failure=on_failure))


async def send(service: RunningService, numbers: range, chance: random.Random) -> None:
    """Payments to many, some of which are listed; of some customers nobody knows an account."""
    async with service.client() as client:

        async def one(number: int) -> None:
            asked = body(f"c_{chance.randrange(40)}", f"{chance.randint(100, 90_000) / 100:.2f}", f"k-{number}", payeeId=f"p_{chance.randrange(60)}")
            async with client.post("/api/payments/decide", json=asked) as response:
                assert response.status == 200, await response.text()

        for start in range(numbers.start, numbers.stop, 50):
            await asyncio.gather(*(one(number) for number in range(start, min(start + 50, numbers.stop))))


def listed(where: Path, dsn: str) -> None:
    for kind, subject, listing in (("payee", "p_1", "block"), ("payee", "p_2", "allow"), ("customer", "c_7", "block")):
        assert paynow(where, dsn, "lists", "add", kind, subject, listing, "--reason", "test").code == 0


async def test_every_decision_of_a_mixed_run_comes_out_the_same(database: str, tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "get_device.py").write_text(FLAKY)
    for number in range(35):
        open_account(database, f"c_{number}", 40_000 * PAYMENTS // 40)
    policies = [
        RULES.format(default="allow", limit=50_000) + DEVICE.format(then="review"),
        RULES.format(default="allow", limit=20_000),
        RULES.format(default="review", limit=80_000) + DEVICE.format(then="block"),
        "",
    ]
    chance = random.Random(5)
    share = PAYMENTS // len(policies)
    for turn, policy in enumerate(policies):
        (tmp_path / "policy.toml").write_text(policy)
        (tmp_path / "paynow.toml").write_text(with_device(("review", "block")[turn % 2]))
        if turn:
            assert paynow(tmp_path, database, "policy", "activate", "--config", "paynow.toml").code == 0
        if turn == 1:
            listed(tmp_path, database)
        with running(database, tmp_path, arguments=("--config", "paynow.toml")) as service:
            await send(service, range(turn * share, (turn + 1) * share), chance)
    told = execute(
        database,
        """select count(*), count(distinct policy_version), count(distinct decision), count(*) filter (where degraded),
            count(*) filter (where answer like '%%"overruled"%%'), count(*) filter (where answer like '%%rule_failed%%')
        from payments""",
    )[0]
    assert told[:3] == (PAYMENTS, 4, 3)
    assert min(told[3:]) > 0

    same = {"decisions": PAYMENTS, "different": 0, "shown": []}
    assert paynow(tmp_path, database, "explain", "--verify", "--all", "--json", "--config", "paynow.toml").json() == same
    # The tool that two of the policies read has gone, and with it what it declared.
    (tmp_path / "paynow.toml").write_text(CONFIG.format(more="", tool="", limits=""))
    assert paynow(tmp_path, database, "explain", "--verify", "--since", "1d", "--json", "--config", "paynow.toml").json() == same

    changed = execute(database, "select payment_id::text from payments where decision = 'review' order by payment_id limit 2")
    for (payment_id,) in changed:
        execute(
            database,
            'update payments set answer = replace(answer, \'"decision":"review"\', \'"decision":"allow"\') where payment_id = %s',
            payment_id,
        )
    ended = paynow(tmp_path, database, "explain", "--verify", "--all", "--json", "--config", "paynow.toml")
    assert ended.code == 1
    found = json.loads(ended.out)
    assert (found["decisions"], found["different"]) == (PAYMENTS, 2)
    assert [one["paymentId"] for one in found["shown"]] == [payment_id for (payment_id,) in changed]
    assert {"decision beside its answer", "verdict", "decision"} == {difference["what"] for difference in found["shown"][0]["differences"]}


async def test_several_payments_can_be_named_and_one_that_is_not_there_is_a_fault(service: RunningService, tmp_path: Path) -> None:
    open_account(service.dsn, "c_1", 10_000)
    async with service.client() as client:
        ids = []
        for key in ("k-1", "k-2"):
            async with client.post("/api/payments/decide", json=body("c_1", "1.00", key)) as response:
                ids.append((await response.json())["paymentId"])
    ended = paynow(tmp_path, service.dsn, "explain", "--verify", *ids)
    assert (ended.code, ended.out) == (0, "verified: 2 decisions come out the same\n")
    missing = "01a20bf6-c9a7-79ed-8db1-4cecae6e2ceb"
    ended = paynow(tmp_path, service.dsn, "explain", "--verify", *ids, missing)
    assert ended.code == 1
    assert ended.out.startswith(missing)
    assert "1 of 3 decisions come out differently" in ended.out


def test_what_is_to_be_explained_has_to_be_said_in_one_way(database: str, tmp_path: Path) -> None:
    some = "01a20bf6-c9a7-79ed-8db1-4cecae6e2ceb"
    for arguments in ((), (some, "--verify", "--all"), ("--all",), (some, some), ("--since", "7d")):
        assert paynow(tmp_path, database, "explain", *arguments).code == 2, arguments


async def test_the_route_explains_and_is_404_for_what_is_not_there(service: RunningService) -> None:
    open_account(service.dsn, "c_1", 10_000)
    async with service.client() as client:
        async with client.post("/api/payments/decide", json=body("c_1", "200.00")) as response:
            decision = await response.json()
        async with client.get(f"/api/payments/{decision['paymentId']}/explanation") as response:
            assert response.status == 200
            told = await response.json()
        assert (told["decision"], told["reasons"], told["amount"]) == ("block", decision["reasons"], "200.00")
        assert told["verified"] == {"same": True, "differences": []}
        assert [(rule["id"], rule["value"]) for rule in told["rules"]] == [("insufficient_funds", "true")]
        assert told["rules"][0]["values"] == {"getBalance.available_minor": 10_000, "payment.amount_minor": 20_000}
        assert "allowed if amount ≤ 100.00 USD" in [change["text"] for change in told["changes"]]
        assert {"name": "payment.amount_minor", "recorded": 20_000, "atMost": 10_000} in [one for change in told["changes"] for one in change["if"]]
        for missing in ("01a20bf6-c9a7-79ed-8db1-4cecae6e2ceb", "nonsense"):
            async with client.get(f"/api/payments/{missing}/explanation") as response:
                assert response.status == 404
