"""The soak: minutes of full load, memory sampled; afterwards the queues have to be empty and the audit clean."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.loads import Crowd, Load
from bench.measures.processes import rss_bytes
from bench.servers.rivals import PAYNOW, at_work, paynow_database
from bench.stage import Stage
from bench.turns import check_all_accepted, check_audit, check_drained, check_stored, close_loop
from bench.voice import Voice

SAMPLE_EVERY_S = 1.0
WARMUP_SHARE = 0.1
SHOWN_SAMPLES = 120
MB = 1024**2


def measure(stage: Stage, *, minutes: float, crowd: Crowd, say: Voice) -> dict[str, Any]:
    """Loads PayNow for so long, a tenth of it before the sampling begins. Raises `Broken`."""
    database = PAYNOW.database or ""
    stage.make_database(database)
    paynow_database(stage, database, crowd.customers)
    seconds = minutes * 60
    with at_work(PAYNOW, stage) as serving:
        say("warming up")
        warm = close_loop(Load(serving.port, "warm", seconds * WARMUP_SHARE, crowd))
        say.begin("soak", seconds)
        with sampled(serving.pid, tick=lambda: say.done(steps=SAMPLE_EVERY_S)) as samples:
            answers = close_loop(Load(serving.port, "soak", seconds, crowd, seed=2))
        check_all_accepted(PAYNOW, warm, answers)
        emptied_s = check_drained(stage, database)
        check_stored(PAYNOW, stage.number(database, PAYNOW.stored or ""), warm.accepted + answers.accepted)
    check_audit(stage, database)
    return {
        "minutes": minutes,
        "decisions": answers.accepted,
        "decisions_per_s": answers.accepted_per_s,
        "p50_ms": answers.p50_ms,
        "p99_ms": answers.p99_ms,
        "p999_ms": answers.p999_ms,
        "max_ms": answers.max_ms,
        **memory(samples),
        "queues_empty_after_s": emptied_s,
        "audit": "clean",
    }


def memory(samples: list[int]) -> dict[str, Any]:
    """How far the server's memory lies from its middle, at the most."""
    low, high = min(samples), max(samples)
    middle = (low + high) / 2
    return {
        "memory_first_mb": samples[0] / MB,
        "memory_last_mb": samples[-1] / MB,
        "memory_least_mb": low / MB,
        "memory_most_mb": high / MB,
        "memory_away_percent": (high - low) / 2 / middle * 100,
        "memory_mb": [round(sample / MB, 1) for sample in samples[:: max(1, len(samples) // SHOWN_SAMPLES)]],
    }


@contextmanager
def sampled(pid: int, *, tick: Callable[[], None]) -> Iterator[list[int]]:
    """Resident memory of a process and its descendants, taken regularly for the length of the block; the first at once."""
    samples = [rss_bytes(pid)]
    over = threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_EVERY_S):
            samples.append(rss_bytes(pid))
            tick()

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield samples
    finally:
        over.set()
        sampler.join()
