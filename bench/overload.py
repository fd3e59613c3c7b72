"""Overload: clients offer twice what the service can do, whatever becomes of their requests."""

from __future__ import annotations

from typing import Any

from bench.loads import Crowd, Load, generator
from bench.servers.rivals import PAYNOW, at_work, paynow_database
from bench.soak import SAMPLE_EVERY_S, memory, sampled
from bench.stage import Stage
from bench.turns import Broken, check_audit, check_drained, close_loop
from bench.voice import Voice

TIMES = 2.0
MAXIMUM_SHARE = 0.1
MAXIMUM_S_MIN, MAXIMUM_S_MAX = 2.0, 30.0
EXPECTED = {"200", "429", "503"}


def measure(stage: Stage, *, minutes: float, crowd: Crowd, say: Voice) -> dict[str, Any]:
    """Finds the maximum in a closed loop, then offers twice as much for so long. Raises `Broken`."""
    database = PAYNOW.database or ""
    stage.make_database(database)
    paynow_database(stage, database, crowd.customers)
    seconds = minutes * 60
    with at_work(PAYNOW, stage) as serving:
        maximum_s = min(MAXIMUM_S_MAX, max(MAXIMUM_S_MIN, seconds * MAXIMUM_SHARE))
        close_loop(Load(serving.port, "warm", MAXIMUM_S_MIN, crowd))
        maximum = close_loop(Load(serving.port, "maximum", maximum_s, crowd, seed=2)).accepted_per_s
        say(f"the maximum is {maximum:,.0f}/s; offering {maximum * TIMES:,.0f}/s")
        stored_before = stage.number(database, PAYNOW.stored or "")
        say.begin("overload", seconds)
        with sampled(serving.pid, tick=lambda: say.done(steps=SAMPLE_EVERY_S)) as samples:
            answers = generator.run(Load(serving.port, "overload", seconds, crowd, rate=maximum * TIMES, seed=3))
        emptied_s = check_drained(stage, database)
        stored = stage.number(database, PAYNOW.stored or "") - stored_before
    check_audit(stage, database)
    if stored < answers.accepted:
        raise Broken(f"{answers.accepted} payments were answered with 200, {stored} are stored")
    statuses = answers.statuses or {}
    if others := answers.failed + sum(number for status, number in statuses.items() if status not in EXPECTED):
        raise Broken(f"{others} requests had no answer, or another than 200, 429 or 503")
    return {
        "minutes": minutes,
        "maximum_per_s": maximum,
        "offered_per_s": maximum * TIMES,
        "accepted_per_s": answers.accepted_per_s,
        "throughput_ratio": answers.accepted_per_s / maximum if maximum else 0.0,
        "accepted_p50_ms": answers.p50_ms,
        "accepted_p99_ms": answers.p99_ms,
        "accepted_max_ms": answers.max_ms,
        "refused_429": statuses.get("429", 0),
        "refused_503": statuses.get("503", 0),
        "refused_p50_ms": answers.refused_p50_ms,
        "refused_p99_ms": answers.refused_p99_ms,
        "refused_max_ms": answers.refused_max_ms,
        "other_answers": sum(number for status, number in statuses.items() if status not in EXPECTED),
        "without_answer": answers.failed,
        "generator_late_p99_ms": answers.late_p99_ms,
        "generator_cpu_share": answers.cpu_s / answers.seconds,
        **memory(samples),
        "queues_empty_after_s": emptied_s,
        "audit": "clean",
    }
