"""PostgreSQL's own `pgbench`, simple-update: one bare update transaction from C, on the same cluster. The yardstick for what a commit costs here."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from collections.abc import Iterable
from pathlib import Path

from psycopg2.extensions import parse_dsn

from bench.loads import Answers
from bench.measures.figures import percentile
from bench.stage import Stage
from paynow.store import embedded_place

DATABASE = "pgbench"
SCALE = 10
CLIENTS = 32
SAMPLED_SHARE = 0.1


def program() -> Path | None:
    """`pgbench`: of the embedded PostgreSQL, else of the system's newest."""
    folders = [embedded_place.find_programs(None), *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    return next((folder / "pgbench" for folder in folders if (folder / "pgbench").is_file()), None)


def prepare(stage: Stage) -> None:
    """Makes its tables: `SCALE` × 100,000 accounts."""
    stage.make_database(DATABASE)
    _run(stage, ["-i", "-q", "-s", str(SCALE)])


def run(stage: Stage, seconds: float) -> Answers:
    """Updates until the time is over."""
    for old in stage.folder.glob("pgbench_log*"):
        old.unlink()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = _run(
        stage,
        ["-N", "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "1", "-T", str(max(1, round(seconds))), "-l", f"--sampling-rate={SAMPLED_SHARE}"],
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = (line for path in stage.folder.glob("pgbench_log*") for line in path.read_text().splitlines())
    return parse(output, lines, cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def parse(output: str, log: Iterable[str], *, cpu_s: float) -> Answers:
    """The answers out of what it wrote, and the times out of its log (`client transaction time_us ...`)."""
    done = re.search(r"number of transactions actually processed: (\d+)", output)
    rate = re.search(r"^tps = ([\d.]+) \(without initial connection time\)", output, re.MULTILINE)
    failed = re.search(r"number of failed transactions: (\d+)", output)
    if done is None or rate is None:
        raise ValueError(f"pgbench told no figures:\n{output}")
    times_ms = sorted(int(line.split()[2]) / 1000 for line in log)
    return Answers(
        answered=int(done[1]),
        accepted=int(done[1]),
        failed=int(failed[1]) if failed else 0,
        seconds=int(done[1]) / float(rate[1]),
        p50_ms=percentile(times_ms, 0.50),
        p95_ms=percentile(times_ms, 0.95),
        p99_ms=percentile(times_ms, 0.99),
        p999_ms=percentile(times_ms, 0.999),
        max_ms=percentile(times_ms, 1),
        cpu_s=cpu_s,
    )


def _run(stage: Stage, arguments: list[str]) -> str:
    found = program()
    assert found is not None
    told = parse_dsn(stage.dsn(DATABASE))
    where = {"PGHOST": told["host"], "PGPORT": told["port"], "PGUSER": told["user"], "PGDATABASE": told["dbname"]}
    ended = subprocess.run(
        [found, *arguments], cwd=stage.folder, env={**os.environ, **where}, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    return ended.stdout
