"""`paynow explain` over payments that a real service decided, and decided again by what was recorded."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from uuid import uuid4

import psycopg2
import pytest

from commands import paynow
from database import execute
from service import UNLIMITED, RunningService, body, open_account, running

DEFAULT_POLICY = {"PAYNOW_RATE_LIMIT__CUSTOMER": "off"}


async def decide(service: RunningService, customer: str, amount: str, key: str = "k-1") -> dict:
    async with service.client() as client, client.post("/api/payments/decide", json=body(customer, amount, key)) as response:
        assert response.status == 200
        return await response.json()


def change_answer(dsn: str, payment_id: str, old: str, new: str) -> None:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "update payments set answer = replace(answer, %s, %s) where payment_id = %s and strpos(answer, %s) > 0", (old, new, payment_id, old)
        )
        assert cursor.rowcount == 1
        connection.commit()


async def test_a_review_is_told_step_by_step_and_comes_out_the_same(database: str, tmp_path: Path) -> None:
    open_account(database, "c_1", 1_000_000)
    with running(database, tmp_path, DEFAULT_POLICY) as service:
        decision = await decide(service, "c_1", "5000.00")
    ended = paynow(tmp_path, database, "explain", decision["paymentId"], "--verify")
    assert (ended.code, ended.err) == (0, "")
    assert all(line == line.rstrip() for line in ended.out.splitlines())
    facts, steps, rules, changes, verified = ended.out.strip().split("\n\n")
    assert "c_1 to p_1" in facts
    assert "5000.00 USD" in facts
    assert "new_payee_large_amount: A large amount to a payee" in facts
    assert f"{decision['caseId']}, open" in facts
    assert "available_minor=1000000  reserved_minor=0" in steps
    assert "fired new_payee_large_amount" in steps
    assert [line.split()[0] for line in steps.splitlines() if not line.startswith(" ")] == ["plan", "tool", "tool", "decide", "tool", "settle"]
    assert next(line.split()[1:] for line in rules.splitlines() if not line.startswith(" ")) == ["new_payee_large_amount", "true", "review"]
    assert "getRiskSignals.payee_known=false" in rules
    assert "allowed if amount ≤ 999.99 USD" in changes
    assert "allowed if getRiskSignals.payee_known were true" in changes
    assert verified.startswith("verified")


async def test_scores_shadow_rules_and_what_the_payer_may_read_stand_in_the_answer_and_come_out_the_same(database: str, tmp_path: Path) -> None:
    open_account(database, "c_1", 1_000_000)
    (tmp_path / "scored.toml").write_text(SCORED)
    scored = {"PAYNOW_POLICY__FILE": str(tmp_path / "scored.toml"), "PAYNOW_EVENTS__SINKS": "[]"}
    with running(database, tmp_path, {**DEFAULT_POLICY, **scored}) as service:
        small, large = await decide(service, "c_1", "5.00", "k-1"), await decide(service, "c_1", "5000.00", "k-2")
    steps = [next(step for step in decision["agentTrace"] if step["step"] == "decide") for decision in (small, large)]
    assert [(step["decision"], step["score"], step.get("shadowFired")) for step in steps] == [("allow", 0, None), ("review", 60, ["watched"])]
    assert large["reasons"] == [{"code": "large", "message": "Inside only", "customerMessage": "We are looking at it"}]
    for decision in (small, large):
        explained = paynow(tmp_path, database, "explain", decision["paymentId"], "--verify")
        assert explained.code == 0
    lines = [line.split(maxsplit=3)[1:] for line in explained.out.splitlines() if line.startswith("rule ")]
    assert lines == [["large", "true", "score +60"], ["watched", "true", "block, only watched"]]
    [(event,)] = execute(database, f"select data::text from outbox where data::text like '%{large['paymentId']}%' limit 1")
    assert "Inside only" not in event


SCORED = """
[thresholds]
review = 50
[[rule]]
id = "large"
currency = "USD"
amount = { from = "1000.00" }
score = 60
message = "Inside only"
customer_message = "We are looking at it"
[[rule]]
id = "watched"
currency = "USD"
amount = { from = "1000.00" }
mode = "shadow"
then = "block"
message = "Watched"
"""


async def test_programs_get_the_answer_and_how_things_stand_now(service: RunningService, tmp_path: Path) -> None:
    open_account(service.dsn, "c_1", 10_000)
    decision = await decide(service, "c_1", "12.50")
    async with service.client() as client, client.post(f"/api/payments/{decision['paymentId']}/capture") as response:
        assert response.status == 200
    document = paynow(tmp_path, service.dsn, "explain", decision["paymentId"], "--verify", "--json", **UNLIMITED).json()
    assert document["answer"] == decision
    assert document["payment"] == {
        "paymentId": decision["paymentId"], "customerId": "c_1", "payeeId": "p_1", "amount": "12.50", "currency": "USD",
    }  # fmt: skip
    assert document["now"]["reservation"] == "captured"
    assert document["now"]["reservationEndedAt"]
    assert document["now"]["case"] is None
    assert document["verified"] == {"same": True, "differences": []}


@pytest.mark.parametrize(("old", "new", "what"), [
    ('"available_minor":10000', '"available_minor":10', "verdict differs: recorded allow; again block"),
    ('"reasons":[]', '"reasons":[{"code":"made_up","message":"Never said"}]', "reasons differs: recorded made_up (Never said); again none"),
])  # fmt: skip
async def test_a_record_that_was_changed_comes_out_differently(service: RunningService, tmp_path: Path, old: str, new: str, what: str) -> None:
    open_account(service.dsn, "c_1", 10_000)
    decision = await decide(service, "c_1", "12.50")
    change_answer(service.dsn, decision["paymentId"], old, new)
    ended = paynow(tmp_path, service.dsn, "explain", decision["paymentId"], "--verify")
    assert ended.code == 1
    assert what in ended.out
    assert paynow(tmp_path, service.dsn, "explain", decision["paymentId"]).code == 0


async def test_a_payment_is_verified_by_its_own_policy_after_another_became_active(service: RunningService, tmp_path: Path) -> None:
    open_account(service.dsn, "c_1", 10_000)
    decision = await decide(service, "c_1", "12.50")
    (tmp_path / "strict.toml").write_text('default = "block"\n')
    assert paynow(tmp_path, service.dsn, "policy", "activate", "strict.toml").code == 0
    document = paynow(tmp_path, service.dsn, "explain", decision["paymentId"], "--verify", "--json").json()
    assert document["verified"]["same"]
    assert execute(service.dsn, "select version = %s from policies where active", decision["policyVersion"]) == [(False,)]


async def test_an_allow_that_the_settle_overruled_comes_out_the_same(plugin_service, tmp_path: Path) -> None:
    """Nothing in this policy looks at the money, so only the settle can say that it is gone."""
    (tmp_path / "policy.toml").write_text('default = "allow"\n')
    service = plugin_service({}, f'[policy]\nfile = "{tmp_path / "policy.toml"}"\n', {"PAYNOW_POLICY__FILE": str(tmp_path / "policy.toml")})
    decision = await decide(service, "c_none", "12.50")
    assert decision["agentTrace"][-1]["status"] == "overruled"
    ended = paynow(tmp_path, service.dsn, "explain", decision["paymentId"], "--verify")
    assert ended.code == 0
    assert "block  overruled for insufficient_funds" in ended.out


async def test_fallbacks_and_attempts_are_told_and_a_degraded_decision_comes_out_the_same(plugin_service, tmp_path: Path) -> None:
    failing = """
from paynow.plugin_api import Effect, Tool, flag, hookimpl

async def call(context): raise ValueError

@hookimpl
def paynow_register_tools(settings): return [Tool("odd", Effect.READ, {"fine": flag()}, call)]
"""
    config = '[plugins]\ndirs = ["plugins"]\nenabled = ["get_balance", "odd"]\n[agent]\nplan = ["getBalance", "odd"]\non_review = []\n'
    service = plugin_service({"odd": failing}, config)
    open_account(service.dsn, "c_1", 10_000)
    decision = await decide(service, "c_1", "12.50")
    ended = paynow(tmp_path, service.dsn, "explain", decision["paymentId"], "--verify", "--config", "paynow.toml")
    assert ended.code == 0
    assert "review, degraded" in ended.out
    assert [line.split()[2] for line in ended.out.splitlines() if line.startswith("tool") and " odd " in line] == ["#1", "#2", "#3"]
    assert "gave no answer: review" in ended.out


def test_no_such_payment_is_exit_code_1_and_no_id_at_all_is_2(database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "explain", str(uuid4()))
    assert ended.code == 1
    assert "there is no payment" in ended.err
    assert paynow(tmp_path, database, "explain", "nonsense").code == 2
