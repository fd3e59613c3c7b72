"""A past of decisions that differ in what the tools said, what failed and what the settle overruled; and a backtest over it, counted again in SQL.

Written by PayNow's own code, from the policy's verdict to the answer's bytes, and copied into `payments` alone: a backtest reads nothing else.
"""

from __future__ import annotations

import io
import json
import os
import random
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2

from bench.measures.processes import members
from bench.servers.rivals import command, paynow_environment, write_configuration
from bench.stage import Stage
from bench.voice import Voice
from paynow.agent import Trace
from paynow.ids import new_id
from paynow.payments.answer import Decision, finish, overruled
from paynow.plugin_api import NEVER_S, Payment, Tool
from paynow.policy import Policy, compile_policy
from paynow.resources import folder
from paynow.settings.load import load

DATABASE = "past"
CHUNK = 10_000
PAST = timedelta(days=7)
CURRENCIES = ("USD", "USD", "USD", "EUR", "JPY", "BHD")
COLUMNS = (
    "customer_id, payment_id, payee_id, amount_minor, currency, decision, degraded, policy_version, reservation, reserved_until, decided_at, answer"
)
SAMPLE_EVERY_S = 0.1

CANDIDATE = """
default = "allow"

[[rule]]
id = "insufficient_funds"
when = "getBalance.available_minor < payment.amount_minor"
then = "block"
message = "The account does not hold enough money"

[[rule]]
id = "listed"
when = 'getRiskSignals.payee_list == "block" || getRiskSignals.customer_list == "block"'
then = "block"
message = "On the block list"

[[rule]]
id = "busy"
when = "getRiskSignals.attempts_1m > 4 && getRiskSignals.attempts_24h >= 40"
then = "review"
message = "Many payments"

[[rule]]
id = "new_payee_in_dollars"
when = 'payment.currency == "USD" && payment.amount_minor >= minor("500.00", "USD") && !getRiskSignals.payee_known'
then = "review"
message = "A large amount to a new payee"

[[rule]]
id = "far_above_mean"
when = "getRiskSignals.amount_to_mean >= 2.5 && getRiskSignals.allowed_count > 3"
then = "review"
message = "Far above the mean"
"""
"""A policy whose rules can be said in SQL, too."""

MATRIX = """
with traced as (
    select p.decision::text as recorded, p.amount_minor, p.currency,
        (select step -> 'output' from json_array_elements(p.answer::json -> 'agentTrace') step
         where step ->> 'tool' = 'getBalance' and step ->> 'status' = 'ok') as balance,
        (select step -> 'output' from json_array_elements(p.answer::json -> 'agentTrace') step
         where step ->> 'tool' = 'getRiskSignals' and step ->> 'status' = 'ok') as signals,
        exists (select from json_array_elements(p.answer::json -> 'agentTrace') step
                where step ->> 'step' = 'fallback' and step ->> 'onFailure' = 'block') as falls_to_block,
        exists (select from json_array_elements(p.answer::json -> 'agentTrace') step
                where step ->> 'step' = 'fallback' and step ->> 'onFailure' = 'review') as falls_to_review,
        p.answer::json -> 'agentTrace' -> -1 ->> 'status' = 'overruled' as overruled
    from payments p
), judged as (
    select recorded, currency, amount_minor, overruled,
        case
            when falls_to_block or (balance ->> 'available_minor')::bigint < amount_minor
                or signals ->> 'payee_list' = 'block' or signals ->> 'customer_list' = 'block' then 'block'
            when falls_to_review
                or ((signals ->> 'attempts_1m')::int > 4 and (signals ->> 'attempts_24h')::int >= 40)
                or (currency = 'USD' and amount_minor >= 50000 and not (signals ->> 'payee_known')::boolean)
                or ((signals ->> 'amount_to_mean')::float >= 2.5 and (signals ->> 'allowed_count')::bigint > 3) then 'review'
            else 'allow'
        end as verdict
    from traced
)
select recorded, case when overruled and verdict = 'allow' then 'block' else verdict end as candidate, currency, count(*), sum(amount_minor)::text
from judged group by 1, 2, 3 order by 1, 2, 3
"""
"""The verdict matrix of `CANDIDATE`, counted without any of PayNow's code."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a random payment meets: the tools' outputs or their failures, and whether its money goes before the settle."""

    outputs: dict[str, dict[str, Any]]
    floors: dict[str, str]
    money_goes: bool


def built_in(*names: str) -> dict[str, Tool]:
    """The built-in tools of these plugins, as they declare themselves."""
    settings = load(None, {}).settings
    made = [tool for name in names for tool in runpy.run_path(str(folder("plugins") / f"{name}.py"))["paynow_register_tools"](settings)]
    return {tool.name: tool for tool in made}


def copy_decisions(dsn: str, decisions: int, policy_text: str, *, seed: int = 7, done: Callable[[int], None] = lambda decisions: None) -> None:
    """Adds so many recorded decisions of the last week to a database that has the schema; `done` is told of each chunk. The role may COPY."""
    policy = compile_policy(
        policy_text, origin="policy", tools={name: tool.output for name, tool in built_in("get_balance", "get_risk_signals").items()}
    )
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        statement = "insert into policies (version, body, author, active) values (%s, %s, 'bench past', true) on conflict do nothing"
        cursor.execute(statement, (policy.version, policy.text))
        for lines in _chunks(decisions, policy, random.Random(seed), datetime.now(UTC)):
            cursor.copy_expert(f"copy payments ({COLUMNS}) from stdin", io.BytesIO("".join(lines).encode()))
            done(len(lines))
        connection.commit()


def _chunks(decisions: int, policy: Policy, chance: random.Random, now: datetime) -> Iterator[list[str]]:
    for start in range(0, decisions, CHUNK):
        yield [_line(policy, chance, now - PAST + PAST * (number / decisions)) for number in range(start, min(start + CHUNK, decisions))]


def _line(policy: Policy, chance: random.Random, at: datetime) -> str:
    customer = f"c_{int(chance.random() ** 3 * 50_000)}"
    at_ms = int(at.timestamp() * 1000)
    payment_id = new_id(customer, now_ms=lambda: at_ms, random_bits=chance.getrandbits)
    amount = max(1, int(chance.lognormvariate(9.2, 1.4)))
    payment = Payment(payment_id, customer, f"p_{int(chance.random() ** 2 * 20_000)}", amount, chance.choice(CURRENCIES))
    decided = _decided(policy, payment, _said(payment, chance), at)
    answer = finish(decided).answer.decode().replace("\\", "\\\\")
    held = ("held", (at + timedelta(days=3650)).isoformat()) if decided.decision == "allow" else ("\\N", "\\N")
    columns = (
        *(customer, payment_id, payment.payee_id, amount, payment.currency, decided.decision, "t" if decided.degraded else "f", policy.version),
        *(*held, at.isoformat(), answer),
    )
    return "\t".join(map(str, columns)) + "\n"


def _said(payment: Payment, chance: random.Random) -> _Said:
    draw = chance.random()
    attempts = 1 + int(chance.random() ** 6 * 14)
    mean = max(1, int(chance.lognormvariate(9.0, 0.8)))
    before = int(chance.random() ** 2 * 40)
    signals = {
        "attempts_1m": attempts,
        "attempts_1h": attempts + int(chance.random() * 20),
        "attempts_24h": attempts + 20 + int(chance.random() * 40),
        "attempted_minor_1m": payment.amount_minor * attempts,
        "attempted_minor_1h": payment.amount_minor * attempts + mean,
        "attempted_minor_24h": payment.amount_minor * attempts + mean * 5,
        "allowed_minor_1m": 0,
        "allowed_minor_1h": mean * (before % 3),
        "allowed_minor_24h": mean * (before % 7),
        "allowed_count": before,
        "allowed_mean_minor": mean if before else 0,
        "amount_to_mean": round(payment.amount_minor / mean, 4) if before else 1.0,
        "payee_known": chance.random() < 0.7,
        "payee_list": chance.choices(("none", "allow", "block"), (0.97, 0.02, 0.01))[0],
        "customer_list": chance.choices(("none", "block"), (0.995, 0.005))[0],
        "failed_attempts_24h": int(chance.random() ** 8 * 10),
        "since_allowed_s": int(chance.random() ** 3 * 1_000_000) if before else NEVER_S,
        "customer_age_s": int(chance.random() * 10_000_000) if before else 0,
        "payee_known_s": 0,
        "payee_age_s": int(chance.random() * 10_000_000),
        "payee_customers_24h": int(chance.random() ** 4 * 200),
        "currency_new": not before,
        "amount_z_score": round(chance.gauss(0, 1.5), 4) if before >= 5 else 0.0,
        "amount_trailing_zeros": int(chance.random() ** 3 * 4),
        "daily_limit_share": 0.0,
    }
    outputs: dict[str, dict[str, Any]] = {
        "getBalance": {"available_minor": int(chance.lognormvariate(11.5, 1.2)), "reserved_minor": mean * (before % 3)},
        "getRiskSignals": signals,
    }
    failed = {0: "getBalance", 1: "getRiskSignals"}.get(int(draw * 100))
    floors = {failed: "block" if failed == "getBalance" else "review"} if failed else {}
    return _Said({name: output for name, output in outputs.items() if name not in floors}, floors, 0.5 < draw < 0.51)


def _decided(policy: Policy, payment: Payment, said: _Said, at: datetime) -> Decision:
    trace = Trace()
    trace.plan(("getBalance", "getRiskSignals"), policy.version)
    for name in ("getBalance", "getRiskSignals"):
        if name in said.floors:
            trace.tool(name, 1, "timeout", 0.4, error="time_limit")
            trace.fallback(name, said.floors[name])
        else:
            trace.tool(name, 1, "ok", 0.00211, output=said.outputs[name])
    evaluation = policy.evaluate(payment, said.outputs, said.floors)
    trace.decide(evaluation.decision, evaluation.fired, evaluation.unknown)
    decision = Decision(
        payment=payment,
        request_id=f"{payment.payment_id.hex}",
        decision=evaluation.decision,
        reasons=evaluation.reasons,
        degraded=bool(said.floors),
        policy_version=policy.version,
        case=None,
        case_pending=False,
        decided_at=at,
        reserved_until=at + timedelta(days=3650),
        trace=trace,
    )
    return overruled(decision) if said.money_goes and evaluation.decision == "allow" else decision


def matrix_in_sql(dsn: str) -> list[tuple[str, str, str, int, int]]:
    """Recorded, candidate, currency, decisions, amount in minor units: as PostgreSQL counts them."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(MATRIX)
        return [(recorded, candidate, currency, count, int(amount)) for recorded, candidate, currency, count, amount in cursor.fetchall()]


def matrix_of(report: dict[str, Any]) -> list[tuple[str, str, str, int, int]]:
    """The same, out of a report of `paynow backtest --json`."""
    return sorted(
        (row["recorded"], row["candidate"], amount["currency"], amount["decisions"], int(amount["amount"].replace(".", "")))
        for row in report["matrix"]
        for amount in row["amounts"]
    )


def measure(stage: Stage, *, decisions: int, workers: int | None, say: Voice) -> dict[str, Any]:
    """A backtest of so many decisions: its rate, and the memory of its processes at its largest.

    Raises `RuntimeError` if SQL counts another matrix.
    """
    stage.make_database(DATABASE)
    write_configuration(stage.folder)
    command(stage, DATABASE, "migrate")
    say.begin("filling", decisions)
    copy_decisions(stage.dsn(DATABASE), decisions, (stage.folder / "policy.toml").read_text(), done=lambda copied: say.done(steps=copied))
    stage.run(DATABASE, "vacuum (analyze) payments")
    (stage.folder / "candidate.toml").write_text(CANDIDATE)
    say("backtest")
    report, seconds, peak_bytes = _backtest(stage, workers)
    say("the same in SQL")
    same = matrix_in_sql(stage.dsn(DATABASE)) == matrix_of(report)
    if not same:
        raise RuntimeError("the matrix is not the one that SQL counts")
    cores = min(report["workers"], os.cpu_count() or 1)
    return {
        "decisions": report["decisions"],
        "changed": report["changed"],
        "workers": report["workers"],
        "seconds": report["seconds"],
        "command_s": round(seconds, 2),
        "decisions_per_minute_and_core": round(report["perSecond"] * 60 / cores),
        "peak_memory_mb": round(peak_bytes / 1e6, 1),
        "matrix_equals_sql": same,
    }


def _backtest(stage: Stage, workers: int | None) -> tuple[dict[str, Any], float, int]:
    """The report of the command, how long it took, and the largest sum of its processes' proportional memory (PSS)."""
    arguments = ["backtest", "--policy", "candidate.toml", "--json", *(["--workers", str(workers)] if workers else [])]
    began = time.monotonic()
    with (stage.folder / "report.json").open("w+") as out:
        running = subprocess.Popen(
            [sys.executable, "-m", "paynow", *arguments],
            cwd=stage.folder,
            env=paynow_environment(stage, DATABASE),
            stdout=out,
        )
        peak_bytes = 0
        ended = threading.Event()
        while not ended.wait(SAMPLE_EVERY_S):
            peak_bytes = max(peak_bytes, sum(map(_pss_bytes, members(running.pid))))
            if running.poll() is not None:
                ended.set()
        if running.returncode:
            raise RuntimeError(f"paynow backtest ended with {running.returncode}")
        out.seek(0)
        return json.load(out), time.monotonic() - began, peak_bytes


def _pss_bytes(pid: int) -> int:
    """A process's memory, of pages that it shares its share; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
