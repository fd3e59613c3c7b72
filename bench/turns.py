"""One turn: a rival is started, warmed up, loaded and stopped, and what it did and used is read."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench.loads import API_KEY, PATH, Answers, Crowd, Load, generator, pgbench, wrk
from bench.measures import metrics, postgres
from bench.measures.metrics import Counts
from bench.measures.postgres import Work
from bench.measures.processes import cpu_s
from bench.servers.rivals import Rival, Serving, at_work, command
from bench.stage import Stage

DRAINED_WITHIN_S = 60.0
POLL_S = 0.1
DECISIONS = ("allow", "review", "block")


class Broken(Exception):
    """A rival did not do what it was asked, so its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What is compared. Processor times are seconds for a thousand decisions, `batch_*` decisions in a statement, the last four for one decision."""

    decisions_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_python: float | None
    cpu_postgres: float | None
    cpu_load: float
    batch_claim: float | None = None
    batch_settle: float | None = None
    statements: float | None = None
    transactions: float | None = None
    fsyncs: float | None = None
    wal_bytes: float | None = None

    def document(self) -> dict[str, Any]:
        """For the results' file."""
        return asdict(self)


def close_loop(load: Load) -> Answers:
    """A closed loop by `wrk`, or by our own generator where there is none."""
    return wrk.run(load) if wrk.installed() else generator.run(load)


def server_turn(stage: Stage, rival: Rival, *, key: str, warmup_s: float, seconds: float, crowd: Crowd) -> Figures:
    """A turn of a server. `key` makes the payments of this turn unlike all others. Raises `Broken`, `DidNotServe`."""
    before = _begin(stage, rival.database)
    stored_before = _stored(stage, rival)
    with at_work(rival, stage) as serving:
        check_answer(serving.port, f"{key}-first")
        warm = close_loop(Load(serving.port, f"{key}-warm", warmup_s, crowd, seed=_seed(key)))
        counted_before = _counted(rival, serving)
        python_before, postgres_before = cpu_s(serving.pid), cpu_s(stage.postmaster)
        answers = close_loop(Load(serving.port, f"{key}-load", seconds, crowd, seed=_seed(key) + 1))
        python, database = cpu_s(serving.pid) - python_before, cpu_s(stage.postmaster) - postgres_before
        counted = _counted(rival, serving)
        check_all_accepted(rival, warm, answers)
        if rival.counts:
            check_drained(stage, rival.database or "")
    work = postgres.work(stage, rival.database or "postgres").since(before) if before else None
    stored = _stored(stage, rival) - stored_before
    check_stored(rival, stored, 1 + warm.accepted + answers.accepted)
    return _figures(answers, python, database if rival.database else None, work, stored, counted.since(counted_before) if counted else None)


def pgbench_turn(stage: Stage, *, warmup_s: float, seconds: float) -> Figures:
    """A turn of `pgbench`, whose transactions stand where the others have decisions."""
    before = _begin(stage, pgbench.DATABASE)
    warm = pgbench.run(stage, warmup_s)
    postgres_before = cpu_s(stage.postmaster)
    answers = pgbench.run(stage, seconds)
    database = cpu_s(stage.postmaster) - postgres_before
    work = postgres.work(stage, pgbench.DATABASE).since(before) if before else None
    return _figures(answers, None, database, work, warm.accepted + answers.accepted, None)


def check_answer(port: int, key: str) -> None:
    """One payment, looked at: it has to be answered with a decision (the floor echoes it). Raises `Broken`."""
    body = {"customerId": "c_0", "amount": "12.50", "currency": "USD", "payeeId": "p_0", "idempotencyKey": key}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", PATH, json.dumps(body), {"X-API-Key": API_KEY, "Content-Type": "application/json"})
        answer = connection.getresponse()
        told = answer.read()
    finally:
        connection.close()
    document = json.loads(told) if answer.status == 200 else {}
    if document != body and document.get("decision") not in DECISIONS:
        raise Broken(f"a payment was answered with {answer.status}: {told[:500].decode(errors='replace')}")


def check_all_accepted(rival: Rival, *loads: Answers) -> None:
    """Every request has to have been answered with 200. Raises `Broken`."""
    for answers in loads:
        if answers.accepted != answers.answered or answers.failed:
            raise Broken(f"{rival.title}: of {answers.answered} answers {answers.accepted} were 200, {answers.failed} requests failed")


def check_stored(rival: Rival, stored: int, accepted: int) -> None:
    """Each 200 is a stored decision; some more may have been under way when the load ended. Raises `Broken`."""
    in_flight_max = 2 * Load.__dataclass_fields__["connections"].default
    if rival.stored and not accepted <= stored <= accepted + in_flight_max:
        raise Broken(f"{rival.title}: {accepted} payments were answered with 200, {stored} are stored")


def check_drained(stage: Stage, database: str, within_s: float = DRAINED_WITHIN_S) -> float:
    """Waits until no event waits for delivery and no claim is open; how long that took. Raises `Broken`."""
    began = time.monotonic()
    while left := stage.number(
        database,
        "select (select count(*) from outbox) + (select coalesce(sum(p.last_place - g.place), 0) from event_progress g join event_partitions p "
        "using (partition)) + (select count(*) from idempotency_keys where state = 'processing' limit 1)",
    ):
        if time.monotonic() - began > within_s:
            raise Broken(f"{left} events and claims of {database} are left")
        time.sleep(POLL_S)
    return time.monotonic() - began


def check_audit(stage: Stage, database: str) -> None:
    """`paynow audit` has to find nothing. Raises `Broken` with what it found."""
    try:
        command(stage, database, "audit")
    except RuntimeError as error:
        raise Broken(str(error)) from error


def _begin(stage: Stage, database: str | None) -> Work | None:
    """Every turn begins after a checkpoint, so that none pays for another's."""
    stage.run("postgres", "checkpoint")
    return postgres.work(stage, database) if database else None


def _stored(stage: Stage, rival: Rival) -> int:
    return stage.number(rival.database or "", rival.stored) if rival.stored else 0


def _counted(rival: Rival, serving: Serving) -> Counts | None:
    return metrics.read(serving.port, API_KEY) if rival.counts else None


def _seed(key: str) -> int:
    return sum(key.encode()) * 7919


def _figures(answers: Answers, python: float | None, database: float | None, work: Work | None, stored: int, counted: Counts | None) -> Figures:
    per: Callable[[float | None, float], float | None] = lambda amount, number: None if amount is None or not number else amount / number  # noqa: E731
    thousands = answers.accepted / 1000
    return Figures(
        decisions_per_s=answers.accepted_per_s,
        p50_ms=answers.p50_ms,
        p95_ms=answers.p95_ms,
        p99_ms=answers.p99_ms,
        cpu_python=per(python, thousands),
        cpu_postgres=per(database, thousands),
        cpu_load=answers.cpu_s / thousands if thousands else 0.0,
        batch_claim=counted and counted.per_batch("claim"),
        batch_settle=counted and counted.per_batch("settle"),
        statements=counted and counted.statements_per_decision,
        transactions=per(work and work.commits, stored),
        fsyncs=per(work and work.fsyncs, stored),
        wal_bytes=per(work and work.wal_bytes, stored),
    )
