"""The closed loop of `wrk`: so many connections, each asking again as soon as it was answered. A script makes the payments and tells the figures."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from pathlib import Path

from bench.loads import AMOUNT_MINOR_MAX, AMOUNT_MINOR_MIN, API_KEY, PATH, PAYEES, Answers, Load

SCRIPT = Path(__file__).with_name("decide.lua")
FIGURES = "figures "
MISSING = "wrk is not installed (Debian, Ubuntu: apt-get install wrk): the bench's own generator stands in for it, at a higher cost"


def installed() -> bool:
    """Whether `wrk` is there."""
    return shutil.which("wrk") is not None


def run(load: Load) -> Answers:
    """Asks until the time is over."""
    crowd = load.crowd
    told = (API_KEY, load.prefix, crowd.customers, round(crowd.favourite_share * 10_000), PAYEES, AMOUNT_MINOR_MIN, AMOUNT_MINOR_MAX, load.seed)
    # One thread: it is far from busy, and there may be two processors for everything.
    command = ["wrk", "-t", "1", "-c", str(load.connections), "-d", f"{max(1, round(load.seconds))}s", "--timeout", "30s", "-s", str(SCRIPT)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        [*command, f"http://127.0.0.1:{load.port}{PATH}", "--", *map(str, told)], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return parse(ended.stdout, cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def parse(output: str, *, cpu_s: float) -> Answers:
    """The answers out of what `wrk` and its script wrote; statuses of 400 and above are errors to it. Raises `ValueError` without figures."""
    line = next((line for line in output.splitlines() if line.startswith(FIGURES)), None)
    if line is None:
        raise ValueError(f"wrk told no figures:\n{output}")
    told = json.loads(line[len(FIGURES) :])
    errors = told["errors"]
    return Answers(
        answered=told["requests"],
        accepted=told["requests"] - errors["status"],
        failed=errors["connect"] + errors["read"] + errors["write"] + errors["timeout"],
        seconds=told["duration_us"] / 1e6,
        p50_ms=told["p50_us"] / 1000,
        p95_ms=told["p95_us"] / 1000,
        p99_ms=told["p99_us"] / 1000,
        p999_ms=told["p999_us"] / 1000,
        max_ms=told["max_us"] / 1000,
        cpu_s=cpu_s,
    )
